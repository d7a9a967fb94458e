"""add, retrain-router, forgetting-report, export, predict: what they promise together."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_bank import SHORT, TASKS, add, content, task_rows, texts, write_task

from expertbank import Bank, ExpertBankError, Row, TrainConfig, load_bundle
from expertbank.errors import ExistsError, IntegrityError, NotFoundError, StaleError
from expertbank.records import ProgressEvent

pytestmark = pytest.mark.slow


def test_bank_and_bundle_give_the_same_answers_bit_for_bit(job: Path) -> None:
    rows = [*texts(), {"text": "the law is good", "text_pair": "a film"}]
    with Bank.open(job / "bank") as bank:
        here = bank.predict(rows)
        named = bank.predict(texts(5), task="films")
    bundle = load_bundle(job / "bundle")
    as_rows = [Row(r) if isinstance(r, str) else Row(**r) for r in rows]
    assert list(bundle.predict(as_rows)) == here
    assert list(bundle.predict(map(Row, texts(5)), task="films")) == named
    assert {answer.task for answer in here} == set(TASKS)


def test_the_bundle_predicts_when_the_bank_is_gone(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        expected = bank.predict(texts(4))
    shutil.rmtree(job / "bank")
    for task in TASKS:
        (job / f"{task}.csv").unlink()
    assert list(load_bundle(job / "bundle").predict(map(Row, texts(4)))) == expected


def test_experts_learn_their_rows_better_than_the_majority_class(
    own_backbone: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "films.csv", "films", 400)
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        result = bank.add("films", data=data, train=TrainConfig(epochs=8))
    # A quarter of the rows tells nothing: 0.875 is the most there is to learn.
    assert result.metrics["accuracy"] > 0.7
    assert result.metrics["p_beats_majority"] < 0.01
    assert 0.4 < result.metrics["majority"] < 0.65


def test_the_same_seed_gives_the_same_expert_twice(own_backbone: Path, tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        with Bank.open(tmp_path / name, backbone=str(own_backbone)) as bank:
            digests.append([add(bank, task, tmp_path) for task in ("films", "laws")])
            digests[-1].append(bank.retrain_router().router.digest)
    assert digests[0] == digests[1]
    with Bank.open(tmp_path / "three", backbone=str(own_backbone)) as bank:
        other = add(bank, "films", tmp_path, train=TrainConfig(epochs=2, seed=1))
    assert other != digests[0][0]


def test_the_same_seed_gives_the_same_expert_in_another_process(
    own_backbone: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "here", backbone=str(own_backbone)) as bank:
        expected = add(bank, "films", tmp_path)
        import torch

        threads = torch.get_num_threads()
    words = ["--home", tmp_path / "there", "--json", "add", "--task", "films"]
    words += ["--data", tmp_path / "films.csv", "--backbone", own_backbone, "--epochs", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "expertbank_cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": "7"},
    )
    assert json.loads(ended.stdout)["expert"]["digest"] == expected


def test_adding_a_task_leaves_every_older_file_bit_identical(
    own_backbone: Path, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    with Bank.open(home, backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
        bank.retrain_router()
        before = content(home / "objects")
        add(bank, "laws", tmp_path)
        bank.retrain_router()
        after = content(home / "objects")
        assert bank.forgetting_report(verify=True).weights_unchanged
    assert before.items() <= after.items()
    assert len(after) > len(before)


def test_a_second_add_is_refused_and_a_new_version_is_what_routers_take(job: Path) -> None:
    before = content(job / "bank")
    with Bank.open(job / "bank") as bank:
        with pytest.raises(ExistsError, match="films@1"):
            add(bank, "films", job)
        assert content(job / "bank") == before
        old = bank.predict(["a good film"], task="films")
        data = write_task(job / "films2.csv", "films", seed=4)
        second = bank.add("films", data=data, train=SHORT, new_version=True).expert
        assert second.id == "films@2"
        assert "films@2" not in bank.registry.router().members
        assert set(bank.retrain_router().router.members) == {"films@2", "games@1", "laws@1"}
        assert bank.predict(["a good film"], task="films")[0].expert == "films@2"
        bank.set_alias("active", "router@3")
        assert "films@1" in {answer.expert for answer in bank.predict(texts())}
        assert old[0].expert == "films@1"
        assert [e.id for e in bank.experts("films")] == ["films@1", "films@2"]


def test_retraining_an_unchanged_bank_returns_the_same_router(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        count = len(bank.routers())
        one, two = bank.retrain_router(), bank.retrain_router()
        assert (one.router, two.router) == (bank.registry.router(),) * 2
        assert len(bank.routers()) == count
        noisy = bank.retrain_router("noisy-top1").router
        assert noisy.version == count + 1
        assert bank.retrain_router("noisy-top1").router == noisy


def test_the_old_router_stays_and_can_be_brought_back(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        assert [router.version for router in bank.routers()] == [1, 2, 3]
        latest = bank.predict(texts())
        bank.set_alias("active", "router@1")
        assert {answer.expert for answer in bank.predict(texts())} == {"films@1"}
        assert bank.forgetting_report().router == 1
        bank.set_alias("active", 3)
        assert bank.predict(texts()) == latest
        moves = [event.router_version for event in bank.registry.alias_events("active")]
        assert moves == [1, 2, 3, 1, 3]


@pytest.mark.parametrize("kind", ["lda", "noisy-top1"])
def test_a_router_is_trained_without_old_text_and_without_a_backbone(
    kind: str, own_backbone: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        for task in TASKS:
            add(bank, task, tmp_path)
            (tmp_path / f"{task}.csv").unlink()
    shutil.rmtree(own_backbone)
    with Bank.open(tmp_path / "bank") as bank:
        result = bank.retrain_router(kind)
        assert result.old_texts_read == 0
        assert result.active
        assert result.tasks == tuple(sorted(TASKS))
        assert result.metrics["accuracy"] > 0.5
        report = bank.forgetting_report()
        assert report.weights_unchanged
        with pytest.raises(ExpertBankError):
            bank.predict(["sky"])


def test_a_router_over_a_bank_that_changed_meanwhile_is_stale_and_not_kept(job: Path) -> None:
    came = []
    with Bank.open(job / "bank") as bank, Bank.open(job / "bank") as other:
        before = bank.routers(), bank.registry.aliases()
        features = len(content(job / "bank"))

        def add_between(event: ProgressEvent) -> None:
            # The gate is being fitted: its features were read, nothing is registered yet.
            if event.stage.startswith("fitting") and not came:
                data = write_task(job / "more.csv", "laws", seed=4)
                came.append(other.add("more", data=data, train=SHORT).expert.id)

        with pytest.raises(StaleError, match="retrain-router"):
            bank.retrain_router(progress=add_between)
        assert came == ["more@1"]
        assert (bank.routers(), bank.registry.aliases()) == before
        assert len(content(job / "bank")) > features
        assert "more@1" in bank.retrain_router().router.members
        assert bank.verify().ok


def test_two_adds_of_one_task_at_once_give_one_expert(job: Path) -> None:
    data = write_task(job / "new.csv", "laws", seed=4)
    done: list[str] = []
    with Bank.open(job / "bank") as bank, Bank.open(job / "bank") as other:

        def add_too(event: ProgressEvent) -> None:
            if event.stage.startswith("training") and not done:
                done.append(other.add("new", data=data, train=SHORT).expert.id)

        with pytest.raises(ExistsError):
            bank.add("new", data=data, train=SHORT, progress=add_too)
        assert [expert.id for expert in bank.experts("new")] == ["new@1"]
        assert bank.verify().ok


def test_a_predictor_follows_the_active_router(job: Path) -> None:
    with Bank.open(job / "bank") as bank, Bank.open(job / "bank") as other:
        assert {a.task for a in bank.predict(texts())} == set(TASKS)
        other.set_alias("active", 1)
        assert {a.task for a in bank.predict(texts())} == {"films"}


def test_without_a_bank_reading_makes_none(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Bank.open(tmp_path / "none", create=False)
    with pytest.raises(NotFoundError):
        Bank.open(tmp_path / "none", read_only=True)
    with Bank.open(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists()


def test_a_bank_whose_making_was_cut_short_can_still_be_made(
    own_backbone: Path, tmp_path: Path
) -> None:
    home = tmp_path / "bank"
    home.mkdir()
    (home / "registry.db").touch()  # SQLite makes the file before the first transaction ends
    with Bank.open(home, backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
        assert bank.verify().ok


def test_nothing_reads_or_leaves_the_users_rows_in_the_bank(job: Path) -> None:
    kept = b"".join(path.read_bytes() for path in (job / "bank").rglob("*") if path.is_file())
    for text, _ in task_rows("films"):
        assert text.encode() not in kept


def test_a_read_only_bank_refuses_to_be_written(job: Path) -> None:
    before = content(job / "bank")
    with Bank.open(job / "bank", read_only=True) as bank:
        with pytest.raises(ExpertBankError, match="read-only"):
            bank.retrain_router()
        with pytest.raises(ExpertBankError):
            bank.set_alias("active", 1)
        data = write_task(job / "new.csv", "laws", seed=4)
        with pytest.raises(ExpertBankError, match="read-only"):
            bank.add("new", data=data, train=SHORT)
    assert content(job / "bank") == before


def test_the_backbone_of_a_bank_is_checked_when_it_is_opened_with_another(
    job: Path, tmp_path: Path
) -> None:
    from tiny import build

    other = build(tmp_path / "other", "bert", seed=1)
    with (
        Bank.open(job / "bank", backbone=str(other)) as bank,
        pytest.raises(IntegrityError, match="digest"),
    ):
        bank.predict(["sky"])
