"""A handle that stays open answers as the bank is now, whatever others did to it meanwhile."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event

import pytest
from small_bank import SHORT, add, texts, write_task

from expertbank import Bank, Prediction, TrainConfig, load_bundle
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import ExpertBankError, IntegrityError, NotFoundError, StaleError

ROWS = texts(10)


def answers(bank: Bank) -> list[list[Prediction]]:
    """What a user can ask: the router's choice, and each task named."""
    named = [bank.predict(ROWS, task=task.name) for task in bank.tasks()]
    return [bank.predict(ROWS), *named]


def fresh(home: Path) -> list[list[Prediction]]:
    with Bank.open(home, read_only=True) as bank:
        return answers(bank)


def restore(home: Path, backup: Path) -> None:
    with Bank.open(home) as bank:
        bank.restore(backup)


def add_sports(home: Path, folder: Path, seed: int) -> str:
    """Add ``sports@1``; the seed decides what it learns. Counts and names are the same for all."""
    data = write_task(folder / f"sports{seed}.csv", "games", seed=seed)
    with Bank.open(home) as bank:
        digest = bank.add("sports", data=data, train=TrainConfig(epochs=2, seed=seed)).expert.digest
        bank.retrain_router()
    return digest


@pytest.fixture
def before(job: Path) -> Path:
    with Bank.open(job / "bank") as bank:
        return bank.backup(job / "before.db")


def serve(home: Path, connection: Connection) -> None:
    """Another process that holds the bank open and answers when it is asked."""
    with Bank.open(home, read_only=True) as bank:
        while connection.recv():
            connection.send(answers(bank))


@pytest.mark.slow
def test_every_open_handle_answers_as_the_bank_is_after_restore_and_another_add(
    job: Path, before: Path
) -> None:
    home = job / "bank"
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(home, theirs))
    child.start()

    def elsewhere() -> list[list[Prediction]]:
        ours.send(True)
        assert ours.poll(120), "the other process does not answer"
        found: list[list[Prediction]] = ours.recv()
        return found

    first = add_sports(home, job, seed=1)
    with Bank.open(home) as bank, Bank.open(home, read_only=True) as reader:
        held = bank.predictor()
        old = answers(bank)
        assert old == answers(reader) == elsewhere()
        restore(home, before)
        assert fresh(home) == answers(bank) == answers(reader) == elsewhere()
        with pytest.raises(NotFoundError, match="sports"):
            bank.predict(ROWS, task="sports")
        second = add_sports(home, job, seed=2)
        assert first != second
        new = fresh(home)
        assert new != old, "otherwise the test shows nothing"
        assert answers(bank) == answers(reader) == elsewhere() == new
        with ThreadPoolExecutor(4) as threads:
            assert all(found == new for found in threads.map(lambda _: answers(bank), range(4)))
        assert bank.predictor() is bank.predictor()
        # One that a caller kept is of the bank as it was, and whole; a name is looked up anew.
        assert list(held.predict(ROWS)) == old[0]
        assert list(held.predict(ROWS, task="sports")) == bank.predict(ROWS, task="sports")
        assert bank.evaluate("sports", job / "sports2.csv").routed_expert == "sports@1"
    ours.send(False)
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.slow
def test_threads_that_answer_while_the_bank_is_restored_see_one_state_or_the_other(
    job: Path, before: Path
) -> None:
    home = job / "bank"
    states = []
    backups = []
    for seed in (1, 2):
        add_sports(home, job, seed)
        states.append(fresh(home)[0])
        with Bank.open(home) as bank:
            backups.append(bank.backup(job / f"state{seed}.db"))
        restore(home, before)
    assert states[0] != states[1]
    restore(home, backups[0])
    stop = Event()
    with Bank.open(home, read_only=True) as bank:

        def work(_: int) -> int:
            count = 0
            while not stop.is_set():
                assert bank.predict(ROWS) in states
                count += 1
            return count

        with ThreadPoolExecutor(3) as threads:
            counts = [threads.submit(work, number) for number in range(3)]
            try:
                for turn in range(12):
                    restore(home, backups[(turn + 1) % 2])
            finally:
                stop.set()
            assert all(count.result() > 0 for count in counts)
        assert bank.predict(ROWS) == states[0]


def test_an_expert_imported_under_a_name_that_was_used_before_answers_with_its_own_weights(
    job: Path, before: Path, tmp_path: Path
) -> None:
    home = job / "bank"
    shutil.copytree(home, tmp_path / "other")
    add_sports(tmp_path / "other", tmp_path, seed=2)
    with Bank.open(tmp_path / "other") as other:
        other.export(tmp_path / "theirs", tasks=["sports"], for_import=True)
        theirs = other.predict(ROWS, task="sports")
    add_sports(home, job, seed=1)
    with Bank.open(home) as bank:
        assert bank.predict(ROWS, task="sports") != theirs
        restore(home, before)
        bank.import_bundle(tmp_path / "theirs")
        assert bank.predict(ROWS, task="sports") == theirs


def test_a_bank_restored_to_before_its_backbone_was_fixed_follows_the_next_one(
    backbone_folder: object, tmp_path: Path
) -> None:
    reference = str(backbone_folder("bert"))  # type: ignore[operator]  # the fixture of conftest
    with Bank.open(tmp_path / "bank", backbone=reference) as bank:
        assert bank.init(route_layer=1).feature_spec.route_layer == 1
        add(bank, "films", tmp_path)
        empty = tmp_path / "empty.db"
        with Bank.open(tmp_path / "none", backbone=reference) as other:
            with other._workspace.making():
                pass
            other.backup(empty)
        first = bank.predict(ROWS, task="films")
        bank.restore(empty)
        with pytest.raises(NotFoundError, match="no expert yet"):
            bank.predict(ROWS, task="films")
        assert bank.init(route_layer=2).feature_spec.route_layer == 2
        add(bank, "films", tmp_path)
        bank.retrain_router()
        second = bank.predict(ROWS, task="films")
        assert second != first
        with Bank.open(tmp_path / "bank", read_only=True) as another:
            assert second == another.predict(ROWS, task="films")
            assert bank.predict(ROWS) == another.predict(ROWS)


def test_a_bundle_replaced_under_an_open_predictor_is_answered_from_whole_or_not_at_all(
    job: Path,
) -> None:
    opened = load_bundle(job / "bundle")
    untouched = load_bundle(job / "bundle")
    films = list(opened.predict(ROWS, task="films"))
    expected = list(load_bundle(job / "bundle").predict(ROWS))
    known = list(untouched.predict(ROWS))
    with Bank.open(job / "bank") as bank:
        data = write_task(job / "other.csv", "games", seed=3)
        for task in ("films", "laws", "games"):
            bank.add(task, data=data, train=SHORT, new_version=True)
        bank.retrain_router()
        bank.export(job / "bundle")
    assert list(load_bundle(job / "bundle").predict(ROWS)) != expected
    assert list(opened.predict(ROWS, task="films")) == films
    with pytest.raises(IntegrityError, match="open it again"):
        list(opened.predict(ROWS))
    assert list(untouched.predict(ROWS)) == known == expected
    assert untouched.answerer("laws").id == "laws@1"


def test_an_expert_is_kept_by_the_digest_of_its_file(made_job: Path) -> None:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        bank.predict(ROWS)
        pool = bank.predictor().model.pool
        for expert in bank.experts():
            held = pool.expert(expert.digest)
            assert (held.task, held.labels) == (expert.task, expert.labels)
            data = bank._workspace.store.get(held.id)
            assert sha256_bytes(data) == expert.digest


def test_data_of_an_expert_that_came_under_an_old_name_is_not_taken_for_its_predecessors(
    job: Path, before: Path
) -> None:
    home = job / "bank"
    add_sports(home, job, seed=1)
    with Bank.open(home, read_only=True) as bank:
        predictor = bank.predictor()
        named = predictor.answerer("sports")
        restore(home, before)
        with pytest.raises(ExpertBankError):
            predictor.data_spec(named)
        add_sports(home, job, seed=2)
        with pytest.raises(StaleError, match="another expert now"):
            predictor.data_spec(named)
