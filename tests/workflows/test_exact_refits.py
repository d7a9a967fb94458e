"""Refitting reads what is new and nothing else; what was removed was never there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_bank import TASKS, add, tamper, texts

from expertbank import Bank, RouterConfig
from expertbank.artifacts.local import LocalStore
from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.registry.frozen import PREFIX
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.projection import sign_projection
from expertbank.routing.statistics import square
from expertbank.routing.statistics_file import read_statistics
from expertbank.workflows.growing.sums_cache import SUMS_CACHE

FolderOf = Callable[[str], Path]
Reads = list[str]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Digests that stores read, one after the other."""
    found: Reads = []
    get = LocalStore.get

    def counted(store: LocalStore, digest: str) -> bytes:
        found.append(digest)
        return get(store, digest)

    monkeypatch.setattr(LocalStore, "get", counted)
    return found


def statistics(bank: Bank) -> dict[str, str]:
    return {one.expert_id: one.digest for one in bank.registry.statistics()}


def test_statistics_are_an_artifact_of_every_expert_from_the_day_it_is_added(job: Path) -> None:
    with Bank.open(job / "bank", read_only=True) as bank:
        own = {one.expert_id: one for one in bank.registry.statistics()}
        assert sorted(own) == sorted(expert.id for expert in bank.experts())
        kinds = {file.digest: file.kind for file in bank.registry.artifacts()}
        for expert, record in own.items():
            assert kinds[record.digest] == "statistics"
            found = read_statistics(bank._workspace.store.get(record.digest), expert)
            assert (found.width, found.count) == (record.width, record.rows)
            features = bank.registry.feature_set(expert)
            assert found.n_train == features.n_train
            whole = found.count - found.span_count
            assert len(found.rows) == features.n_train - whole == features.n_train // 5
        assert bank.verify().ok


def test_a_refit_reads_the_new_tasks_statistics_and_no_others(job: Path, reads: Reads) -> None:
    with Bank.open(job / "bank") as bank:
        own = statistics(bank)
        bank.retrain_router()
        assert not set(reads) & set(own.values()), "all of them are in the sums"
        bank.remove("games")
        bank.retrain_router()
        assert set(reads) & set(own.values()) == {own["games@1"]}, "to be taken out"
        reads.clear()
        add(bank, "games", job, new_version=True)
        new = statistics(bank)["games@2"]
        bank.retrain_router()
        assert set(reads) & (set(own.values()) | {new}) == {new}


@pytest.mark.parametrize("kind", ["lda", "ridge"])
def test_without_a_task_the_bytes_are_those_of_a_bank_that_never_had_it(
    job: Path, tmp_path: Path, backbone_folder: FolderOf, kind: str
) -> None:
    config = RouterConfig(kind)
    with Bank.open(tmp_path / "never", backbone=str(backbone_folder("bert"))) as never:
        for task in ("laws", "films"):
            add(never, task, job)
        expected = never.retrain_router(config=config).router.digest
    with Bank.open(job / "bank") as bank:
        whole = bank.retrain_router(config=config).router.digest
        bank.remove("games")
        assert bank.retrain_router(config=config).router.digest == expected
        add(bank, "games", job, new_version=True)
        back = bank.retrain_router(config=config).router.digest
        assert back != whole, "another version is another member"


def test_sums_that_are_gone_damaged_or_of_another_bank_change_nothing(
    job: Path, tmp_path: Path
) -> None:
    cache = job / "bank" / SUMS_CACHE
    with Bank.open(job / "bank") as bank:
        expected = bank.retrain_router().router.digest
        data = cache.read_bytes()
        for other in (b"", b"x" * 50, data[:-1], data[:40] + b"\xff" + data[41:]):
            cache.write_bytes(other)
            assert bank.retrain_router().router.digest == expected
            assert cache.read_bytes() == data, "left as they should be"
        cache.unlink()
        cache.mkdir()
        assert bank.retrain_router().router.digest == expected, "and where none can be left"


def test_statistics_that_changed_on_disk_are_refused(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        digest = statistics(bank)["films@1"]
        tamper(Path(LocalStore(job / "bank" / "objects").where(digest)))
        (job / "bank" / SUMS_CACHE).unlink()
        with pytest.raises(IntegrityError, match=digest[:8]):
            bank.retrain_router()
        assert not bank.verify().ok


def test_gc_takes_the_statistics_of_removed_tasks_and_sums_without_them_are_made_anew(
    job: Path,
) -> None:
    with Bank.open(job / "bank") as bank:
        own, store = statistics(bank), bank._workspace.store
        bank.remove("games")
        bank.gc(purge_removed=True, dry_run=True)
        old = (job / "bank" / SUMS_CACHE).read_bytes()
        expected = bank.retrain_router().router.digest
        (job / "bank" / SUMS_CACHE).write_bytes(old)
        bank.gc(purge_removed=True, grace_hours=0)
        assert not (job / "bank" / SUMS_CACHE).exists(), "rows of it were in there"
        assert store.state(own["games@1"]) is None
        assert sorted(statistics(bank)) == ["films@1", "laws@1"]
        assert bank.verify().ok
        (job / "bank" / SUMS_CACHE).write_bytes(old)
        assert bank.retrain_router().router.digest == expected


def test_the_cost_is_split_and_what_it_is_of_is_said(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        result = bank.retrain_router()
    assert set(result.cost) == {"read", "add", "solve", "evaluate"}
    assert 0 <= sum(result.cost.values()) <= result.seconds
    document = result.to_dict()
    assert document["cost"] == {name: round(s, 3) for name, s in result.cost.items()}
    assert document["put_on_grid"] == document["unmeasured"] == []


# -- banks of before -------------------------------------------------------------------------


def as_before(home: Path, rewrite: Callable[[bytes], bytes]) -> None:
    """A bank without statistics, whose feature files are ``rewrite`` of what they are now."""
    store = LocalStore(home / "objects")
    with sqlite3.connect(home / "registry.db") as raw:
        names = [
            row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type='trigger'")
        ]
        triggers = {
            name: raw.execute("SELECT sql FROM sqlite_master WHERE name = ?", [name]).fetchone()[0]
            for name in names
            if name.startswith(PREFIX)
        }
        for name in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("DELETE FROM statistics")
        raw.execute("DELETE FROM artifacts WHERE kind = 'statistics'")
        for expert, digest in raw.execute("SELECT expert_id, digest FROM feature_sets").fetchall():
            data = rewrite(store.get(digest))
            new = store.put(data)
            raw.execute(
                "INSERT OR IGNORE INTO artifacts (digest, kind, bytes, created_at) "
                "VALUES (?, 'features', ?, '')",
                [new, len(data)],
            )
            raw.execute(
                "UPDATE feature_sets SET digest = ?, bytes = ? WHERE expert_id = ?",
                [new, len(data), expert],
            )
        for sql in triggers.values():
            raw.execute(sql)
    (home / SUMS_CACHE).unlink(missing_ok=True)


def in_float16(data: bytes) -> bytes:
    """The features as format 1 kept them, each a little off the grid."""
    file = FeatureFile.from_bytes(data, "test")
    tensors, _ = read_safetensors(data, "test")
    off = torch.full((), 1 / 256)
    tensors |= {
        "train": (file.train.float() + off).half(),
        "evaluation": (file.evaluation.float() + off).half(),
    }
    facts = {"format": 1, "feature_spec_digest": file.feature_spec_digest}
    return write_safetensors(tensors, facts)


def test_a_bank_of_before_is_put_on_the_grid_once_and_gives_the_same_router(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        expected, metrics = bank.retrain_router().router.digest, bank.retrain_router().metrics
    as_before(job / "bank", in_float16)
    with Bank.open(job / "bank") as bank:
        assert statistics(bank) == {}
        assert bank.verify().ok
        first = bank.retrain_router()
        assert first.router.digest == expected
        assert first.metrics == metrics
        assert first.put_on_grid == ("films@1", "games@1", "laws@1")
        assert sorted(statistics(bank)) == ["films@1", "games@1", "laws@1"]
        again = bank.retrain_router()
        assert again.put_on_grid == ()
        assert again.router.digest == expected
        assert bank.verify().ok
        assert len(bank.predict(texts(3))) == 9
        assert bank.forgetting_report(verify=True).weights_unchanged


def as_moments(data: bytes) -> bytes:
    """What ``--keep stats`` kept at first: float64 moments of projected features."""
    kept = read_statistics(data, "test")
    flips = sign_projection(kept.width, min(kept.width, 512), "stats")
    gram = flips.T @ (square(kept.upper, kept.width).double() / 32**2) @ flips
    first, second = torch.triu_indices(*gram.shape)
    facts = {
        "format": 1,
        "feature_spec_digest": kept.feature_spec_digest,
        "dimension": kept.grid.dimension,
        "shape_counts": [kept.count, 0, 0],
    }
    total = kept.total.double() / 32 @ flips
    return write_safetensors({"gram": gram[first, second], "total": total}, facts)


def test_a_bank_of_moments_goes_on_at_their_width(
    job: Path, tmp_path: Path, backbone_folder: FolderOf
) -> None:
    home = tmp_path / "moments"
    with Bank.open(home, backbone=str(backbone_folder("bert"))) as bank:
        bank.init(keep="stats")
        for task in ("films", "laws"):
            add(bank, task, job)
    as_before(home, as_moments)
    with Bank.open(home) as bank:
        add(bank, "games", job)
        first = bank.retrain_router()
        assert first.put_on_grid == ("films@1", "laws@1")
        records = bank.registry.statistics()
        assert {(one.projection, one.width, one.dimension) for one in records} == {
            ("stats", 128, 128)
        }
        assert bank.retrain_router().put_on_grid == ()
        assert bank.verify().ok
        answers = bank.predict(texts(20))
    assert {answer.task for answer in answers} == set(TASKS)
