"""A bank whose files lie in a store from outside does everything that a bank does."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from outside_stores import HELD, MemoryStore
from small_bank import add, content, texts

from expertbank import Bank, Row, load_bundle
from expertbank.errors import ExpertBankError, InputError, IntegrityError, NotFoundError

FolderOf = Callable[[str], Path]
ROWS = [Row(text) for text in texts(6)]
DAY = 24 * 3600.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store of this test's own."""
    return f"memory://{tmp_path.name}-{len(HELD)}/objects"


@pytest.fixture(scope="session")
def backbone(backbone_folder: FolderOf) -> str:
    return str(backbone_folder("bert"))


@dataclass(frozen=True)
class Grown:
    """A bank of two tasks and a router, its store, and the experts' digests."""

    home: Path
    store: MemoryStore
    experts: tuple[str, ...]


@pytest.fixture(scope="session")
def made(backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    folder, store = tmp_path_factory.mktemp("outside"), MemoryStore("memory://grown/objects")
    with Bank.open(folder / "bank", backbone=backbone, store=store.location) as bank:
        experts = tuple(add(bank, task, folder) for task in ("films", "laws"))
        bank.retrain_router()
    return Grown(folder / "bank", store, experts)


@pytest.fixture
def grown(made: Grown, tmp_path: Path) -> Iterator[Grown]:
    """A copy of ``made`` to write to."""
    shutil.copytree(made.home, tmp_path / "bank")
    kept = dict(HELD["grown"])
    yield Grown(tmp_path / "bank", made.store, made.experts)
    HELD["grown"].clear()
    HELD["grown"].update(kept)


def test_the_files_in_an_outside_store_are_those_of_any_bank(
    made: Grown, backbone: str, tmp_path: Path
) -> None:
    assert not (made.home / "objects").exists()
    assert set(made.experts) <= set(made.store.digests())
    with Bank.open(tmp_path / "usual", backbone=backbone) as bank:
        assert add(bank, "films", tmp_path) == made.experts[0]


def test_the_whole_job_runs_on_a_store_from_outside(grown: Grown, tmp_path: Path) -> None:
    home, store, experts, url = grown.home, grown.store, grown.experts, grown.store.location

    with Bank.open(home) as bank:
        record = bank.backbone()
        assert record is not None
        assert record.store == url
        report = bank.forgetting_report(verify=True)
        assert {task.task for task in report.tasks} == {"films", "laws"}
        orphan, young = store.put(b"nobody refers to this"), store.put(b"nor to this")
        store.age(orphan, 2 * DAY)
        assert set(bank.verify().unreferenced) == {orphan, young}
        deleted = bank.gc().to_dict()["deleted"]
        assert [entry["path"] for entry in deleted] == [store.where(orphan)]
        assert store.state(orphan) is None
        assert store.state(young) is not None
        bank.gc(grace_hours=0)
        bank.export(tmp_path / "bundle", for_import=True)
        expected = bank.predict(ROWS)
        verified = bank.verify()
        assert verified.ok
        assert verified.unreferenced == ()
        assert bank.doctor().healthy
    assert list(load_bundle(tmp_path / "bundle").predict(ROWS)) == expected
    assert url not in (tmp_path / "bundle" / "manifest.json").read_text()

    other = f"{url}-other".replace("memory://", "memory://other-")
    with Bank.open(tmp_path / "other", store=other) as bank:
        assert len(bank.import_bundle(tmp_path / "bundle").imported) == 2
        bank.retrain_router()
        assert bank.verify().ok
        assert [one.label for one in bank.predict(ROWS, task="films")] == [
            one.label for one in Bank.open(home).predict(ROWS, task="films")
        ]
    assert set(experts) <= set(MemoryStore(other).digests())
    assert not (tmp_path / "other" / "objects").exists()

    with Bank.open(home) as bank:
        bank.remove("laws")
        bank.retrain_router()
        bank.gc(purge_removed=True)
        assert store.state(experts[1]) is None
        assert bank.verify().ok


def test_a_folder_elsewhere_holds_a_banks_files(backbone: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with Bank.open(tmp_path / "bank", backbone=backbone) as bank:
        assert bank.init(store=elsewhere.as_uri()).store == elsewhere.as_uri()
        digest = add(bank, "films", tmp_path)
        assert bank.verify().ok
    assert (elsewhere / digest[:2] / f"{digest}.safetensors").is_file()
    assert not (tmp_path / "bank" / "objects").exists()


def test_damage_in_an_outside_store_is_found_in_a_fixed_order(grown: Grown) -> None:
    home, store = grown.home, grown.store
    damaged = list(store.digests())[::2]
    for digest in damaged:
        store.damage(digest, store.get(digest)[:-1])
    steps: list[int] = []
    with Bank.open(home, read_only=True) as bank:
        order = [artifact.digest for artifact in bank.registry.artifacts()]
        first = bank.verify(progress=lambda event: steps.append(event.done))
        again = bank.verify()
    assert first == again
    assert [problem.where for problem in first.problems] == [d for d in order if d in damaged]
    assert steps == list(range(1, len(order) + 1))


def test_a_database_is_restored_beside_its_outside_store(grown: Grown, tmp_path: Path) -> None:
    home, store = grown.home, grown.store
    with Bank.open(home) as bank:
        bank.backup(tmp_path / "saved.db")
        bank.remove("laws")
        bank.restore(tmp_path / "saved.db")
        assert {task.name for task in bank.tasks()} == {"films", "laws"}
    store.damage(grown.experts[0], b"other bytes")
    with (
        Bank.open(home) as bank,
        pytest.raises(IntegrityError, match=f"names 1 files that {store.location} does not hold"),
    ):
        bank.restore(tmp_path / "saved.db")


def test_a_store_that_refuses_is_noticed_before_anything_is_trained(
    grown: Grown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: MemoryStore) -> None:
        raise ExpertBankError("the credentials have expired")

    monkeypatch.setattr(MemoryStore, "probe", refuse)
    stages: list[str] = []
    with Bank.open(grown.home) as bank:
        for work in (
            lambda: add(bank, "games", tmp_path, progress=lambda e: stages.append(e.stage)),
            lambda: bank.retrain_router(progress=lambda e: stages.append(e.stage)),
        ):
            with pytest.raises(ExpertBankError, match="credentials have expired"):
                work()
    assert stages == []


# -- recorded once -------------------------------------------------------------------------


def test_another_store_than_the_recorded_one_is_refused(
    backbone: str, url: str, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    with Bank.open(home, backbone=backbone, store=url) as bank:
        bank.init()
        bank.init(store=url)
        with pytest.raises(InputError, match=f"keeps its files at {url}, not at memory://other"):
            bank.init(store="memory://other")
    with pytest.raises(InputError, match="cannot change"):
        Bank.open(home, store="memory://other")
    Bank.open(home, store=url).close()
    with Bank.open(tmp_path / "usual", backbone=backbone) as bank:
        bank.init()
    with pytest.raises(InputError, match="objects, not at memory://"):
        Bank.open(tmp_path / "usual", store=url)


def test_a_store_of_another_bank_is_refused(backbone: str, url: str, tmp_path: Path) -> None:
    MemoryStore(url).put(b"another bank's")
    with Bank.open(tmp_path / "bank", backbone=backbone, store=url) as bank:
        with pytest.raises(InputError, match="files of another bank"):
            bank.init()
        with pytest.raises(InputError, match="files of another bank"):
            add(bank, "films", tmp_path)
    assert list(MemoryStore(url).digests())


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ("memory://me:hunter2@host", InputError),
        ("objects", InputError),
        ("nothing://here", NotFoundError),
        (f"{Path(__file__).as_uri()}/objects", ExpertBankError),
    ],
)
def test_a_store_that_cannot_be_used_leaves_no_bank(
    wanted: str, error: type[ExpertBankError], backbone: str, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=backbone, store=wanted) as bank:
        with pytest.raises(error) as refused:
            bank.init()
        assert "hunter2" not in str(refused.value)
    assert content(tmp_path) == {}


def test_a_bank_whose_store_is_not_installed_opens_and_lists_and_says_what_is_missing(
    grown: Grown,
) -> None:
    with sqlite3.connect(grown.home / "registry.db") as raw:
        raw.execute("DROP TRIGGER frozen_backbones_update")
        raw.execute("UPDATE backbones SET store = 'gone://bucket/prefix'")
    with Bank.open(grown.home, read_only=True) as bank:
        assert len(bank.experts()) == 2
        assert bank.history()
        for needs in (bank.verify, lambda: bank.predict(ROWS)):
            with pytest.raises(NotFoundError, match=r"no store named 'gone'.*install"):
                needs()
        found = {finding.subject: finding for finding in bank.doctor().findings}
        assert found["store"].state == "problem"


def test_the_command_records_the_store_and_says_so(
    backbone: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from expertbank_cli.main import run

    words = ["--home", str(tmp_path / "bank"), "--json", "init", "--backbone", backbone]
    for again in ([*words, "--store", url], words):
        with pytest.raises(SystemExit) as ended:
            run(again)
        assert ended.value.code == 0
        assert json.loads(capsys.readouterr().out)["store"] == url
    with pytest.raises(SystemExit) as ended:
        run([*words, "--store", "memory://other"])
    assert ended.value.code == 2
