"""``add`` in its parts: a job is a plain value, runs anywhere, and is believed only if it fits."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from small_bank import SHORT, add, content, write_task

from expertbank import AddJob, Bank, BankConfig, FinishedJob, TrainConfig, run_job
from expertbank.artifacts.store import sha256_bytes
from expertbank.data import encode_rows
from expertbank.errors import (
    ExistsError,
    ExpertBankError,
    FeatureSpecError,
    InputError,
    IntegrityError,
    StaleError,
)
from expertbank.records import ProgressEvent

_ELSEWHERE = """
import pickle, sys
from pathlib import Path
from expertbank import run_job
job = pickle.loads(Path(sys.argv[1]).read_bytes())
Path(sys.argv[2]).write_bytes(pickle.dumps(run_job(job)))
assert "expertbank.bank" not in sys.modules
"""


def same_threads() -> dict[str, str]:
    import torch

    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def held(home: Path) -> dict[str, str]:
    """Every file of a bank; a cache of digests may come and go."""
    return {name: d for name, d in content(home).items() if name != "backbone-digests.json"}


def run_elsewhere(job: AddJob, threads: int) -> FinishedJob:
    """What a worker of a pool does."""
    import torch

    torch.set_num_threads(threads)
    return run_job(job)


class InAPool:
    """Runs jobs in a fresh process of a pool; what stays there is not told."""

    def run(self, job: AddJob, **_told: object) -> FinishedJob:
        import torch

        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(run_elsewhere, job, torch.get_num_threads()).result()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_task(tmp_path / "films.csv", "films")


@pytest.fixture
def bank(own_backbone: Path, tmp_path: Path) -> Bank:
    return Bank.open(tmp_path / "bank", backbone=str(own_backbone))


def test_an_expert_trained_in_another_process_is_the_one_that_add_trains(
    bank: Bank, own_backbone: Path, data: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "whole", backbone=str(own_backbone)) as whole:
        expected = whole.add("films", data=data, train=SHORT)
    (tmp_path / "job").write_bytes(pickle.dumps(bank.prepare("films", data=data, train=SHORT)))
    data.unlink()
    assert bank.experts() == ()
    subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(tmp_path / "job"), str(tmp_path / "finished")],
        check=True,
        timeout=120,
        env=same_threads(),
    )
    result = bank.commit(pickle.loads((tmp_path / "finished").read_bytes()))
    assert result.expert.digest == expected.expert.digest
    assert result.metrics == expected.metrics
    assert result.data == expected.data
    assert result.train["best_epoch"] == expected.train["best_epoch"]
    assert content(tmp_path / "bank" / "objects") == content(tmp_path / "whole" / "objects")
    assert bank.verify().ok
    assert bank.retrain_router().tasks == ("films",)
    assert bank.forgetting_report(verify=True).weights_unchanged


def test_add_runs_on_an_executor_in_another_process(
    bank: Bank, own_backbone: Path, data: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "whole", backbone=str(own_backbone)) as whole:
        expected = whole.add("films", data=data, train=SHORT).expert.digest
    assert bank.add("films", data=data, train=SHORT, on=InAPool()).expert.digest == expected


def test_preparing_writes_nothing_but_the_backbone(bank: Bank, data: Path, tmp_path: Path) -> None:
    record = bank.init(max_length=48)
    before = held(tmp_path / "bank")
    job = bank.prepare("films", data=data, train=SHORT)
    assert held(tmp_path / "bank") == before
    assert job.backbone == record
    finished = run_job(job)
    assert held(tmp_path / "bank") == before
    assert bank.commit(finished).expert.id == "films@1"


def test_a_job_says_nothing_of_a_text(bank: Bank, data: Path) -> None:
    kept = pickle.dumps(bank.prepare("films", data=data, train=SHORT))
    assert not [
        row for row in data.read_text().splitlines()[1:] if row.split(",")[0].encode() in kept
    ]


def test_each_row_is_tokenised_once(
    bank: Bank, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expertbank.workflows.growing import prepare

    seen: list[Any] = []

    def counting(rows: Any, *rest: Any) -> Any:
        seen.extend(rows)
        return encode_rows(rows, *rest)

    monkeypatch.setattr(prepare, "encode_rows", counting)
    job = bank.prepare("films", data=data, train=SHORT)
    assert len(seen) == len(set(seen)) == 80
    assert len(job.train) + len(job.selection) == len(job.kept) == 80 - len(job.validation)
    assert {id(row) for row, _ in job.kept} == {id(row) for row in (*job.train, *job.selection)}


def test_the_job_of_another_bank_is_refused(
    bank: Bank, own_backbone: Path, data: Path, tmp_path: Path
) -> None:
    finished = run_job(bank.prepare("films", data=data, train=SHORT), device="cpu")
    with Bank.open(tmp_path / "other", backbone=str(own_backbone)) as other:
        other.init()
        before = content(tmp_path / "other")
        with pytest.raises(InputError, match="another bank"):
            other.commit(finished)
        assert content(tmp_path / "other") == before


def test_a_job_run_on_another_backbone_is_refused_before_training(
    bank: Bank, data: Path, tmp_path: Path
) -> None:
    from tiny import build

    job = bank.prepare("films", data=data, train=SHORT)
    other = build(tmp_path / "other", "bert", seed=1)
    with pytest.raises(IntegrityError, match="is not the backbone of the bank that films@1 is for"):
        run_job(job, backbone=str(other), device="cpu")


def _flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[-1] ^= 1
    return bytes(changed)


def _with(files: Mapping[str, bytes], **changes: bytes) -> dict[str, Any]:
    """Changed files with digests that fit them: what a liar would send."""
    changed = {**files, **changes}
    return {
        "files": changed,
        "digests": {name: sha256_bytes(data) for name, data in changed.items()},
    }


LIES: dict[str, Callable[[FinishedJob, FinishedJob], FinishedJob]] = {
    "a changed bit": lambda one, _: replace(
        one, files={**one.files, "expert": _flipped(one.files["expert"])}
    ),
    "changed features": lambda one, _: replace(
        one, files={**one.files, "features": _flipped(one.files["features"])}
    ),
    "no expert": lambda one, _: replace(one, **_with(one.files, expert=b"")),
    "a pickle": lambda one, _: replace(one, **_with(one.files, expert=pickle.dumps(1))),
    "an expert of another task": lambda one, other: replace(
        one, **_with(one.files, expert=other.files["expert"])
    ),
    "evidence of other rows": lambda one, other: replace(
        one,
        **_with(one.files, oracle=other.files["oracle"], features=other.files["features"]),
    ),
    "features of fewer rows": lambda one, other: replace(
        one, **_with(one.files, features=other.files["oracle"])
    ),
    "a file too many": lambda one, _: replace(one, **_with(one.files, more=b"x")),
    "a file too few": lambda one, _: replace(
        one, files={"expert": one.files["expert"]}, digests={"expert": one.digests["expert"]}
    ),
}


@pytest.fixture(scope="module")
def finished(
    backbone_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FinishedJob, FinishedJob]:
    """A bank without experts, and two jobs of it that were run; never write to it."""
    folder = tmp_path_factory.mktemp("finished")
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        done = [
            run_job(
                bank.prepare(task, data=write_task(folder / f"{task}.csv", task), train=SHORT),
                device="cpu",
            )
            for task in ("films", "laws")
        ]
    return folder / "bank", done[0], done[1]


@pytest.mark.parametrize("lie", LIES)
def test_a_result_that_is_not_what_the_job_asked_for_is_refused_and_nothing_is_stored(
    lie: str, finished: tuple[Path, FinishedJob, FinishedJob]
) -> None:
    home, one, other = finished
    with Bank.open(home) as bank:
        before = content(home)
        with pytest.raises(IntegrityError):
            bank.commit(LIES[lie](one, other))
        assert bank.experts() == ()
        assert content(home) == before


def test_an_expert_made_under_another_feature_spec_is_refused(
    bank: Bank, own_backbone: Path, data: Path, tmp_path: Path
) -> None:
    here = bank.prepare("films", data=data, train=SHORT)
    with Bank.open(tmp_path / "other", backbone=str(own_backbone)) as other:
        there = run_job(other.prepare("films", data=data, train=SHORT, max_length=16), device="cpu")
    with pytest.raises(IntegrityError, match="feature spec"):
        bank.commit(replace(there, entry=here.entry))


def test_a_version_that_was_taken_meanwhile_is_refused(bank: Bank, data: Path) -> None:
    finished = run_job(bank.prepare("films", data=data, train=SHORT), device="cpu")
    first = bank.commit(finished).expert
    with pytest.raises(ExistsError, match="films@1 was registered meanwhile"):
        bank.commit(finished)
    assert bank.experts() == (first,)
    with pytest.raises(ExistsError):
        bank.prepare("films", data=data, train=SHORT)


def test_a_name_that_was_taken_while_an_expert_was_trained_is_refused(
    bank: Bank, data: Path
) -> None:
    plain = run_job(bank.prepare("films", data=data, train=SHORT), device="cpu")
    grouped = bank.prepare("shows", data=data, train=SHORT, group="films")
    bank.commit(run_job(grouped, device="cpu"))
    with pytest.raises(ExistsError, match="a group is called films"):
        bank.commit(plain)
    grouped = bank.prepare("plays", data=data, train=SHORT, group="books")
    books = bank.prepare("books", data=data, train=SHORT)
    bank.commit(run_job(books, device="cpu"))
    with pytest.raises(ExistsError, match="a task is called books"):
        bank.commit(run_job(grouped, device="cpu"))
    assert [expert.task for expert in bank.experts()] == ["books", "shows"]


def test_a_job_from_before_a_restore_is_stale(bank: Bank, data: Path, tmp_path: Path) -> None:
    bank.init()
    bank.backup(tmp_path / "copy.db")
    bank.add("films", data=data, train=SHORT)
    job = bank.prepare("films", data=data, train=TrainConfig(epochs=1), new_version=True)
    assert job.entry.id == "films@2"
    finished = run_job(job)
    bank.restore(tmp_path / "copy.db")
    bank.close()
    with Bank.open(tmp_path / "bank") as restored, pytest.raises(StaleError, match="films@1"):
        restored.commit(finished)


def test_the_settings_of_a_bank_are_one_object_or_keywords(
    own_backbone: Path, data: Path, tmp_path: Path
) -> None:
    wish = BankConfig(backbone=str(own_backbone), max_length=24, route_layer=1)
    with Bank.open(tmp_path / "a") as bank:
        one = bank.init(wish)
        assert bank.init(max_length=24) == one
        assert bank.init(wish, route_layer=1) == one
        with pytest.raises(FeatureSpecError, match="max length 24, not 32"):
            bank.add("films", data=data, bank=wish, max_length=32)
        with pytest.raises(TypeError, match="max_lenght"):
            bank.init(max_lenght=24)  # type: ignore[call-arg]
        expert = bank.add("films", data=data, train=SHORT).expert
    with Bank.open(tmp_path / "b") as bank:
        same = bank.add("films", data=data, train=SHORT, bank=wish).expert
        assert (same.digest, bank.backbone().feature_spec) == (expert.digest, one.feature_spec)  # type: ignore[union-attr]


def test_progress_of_all_steps_reaches_the_caller(bank: Bank, tmp_path: Path) -> None:
    stages: list[str] = []

    def told(event: ProgressEvent) -> None:
        stages.append(event.stage)

    add(bank, "films", tmp_path, progress=told)
    seen = list(dict.fromkeys(stages))
    steps = ["training films", "evaluating films", "caching routing features", "registering"]
    assert seen[-4:] == steps


def test_what_is_odd_about_data_is_told_before_anything_is_trained(
    bank: Bank, tmp_path: Path
) -> None:
    file = tmp_path / "odd.csv"
    rows = (f"what {n},why {n},because {n},so {n},{n % 2}\n" for n in range(60))
    file.write_text("question,context,answer0,answer1,label\n" + "".join(rows))
    events: list[ProgressEvent] = []
    result = bank.add("odd", data=file, train=SHORT, progress=events.append)
    warned = [place for place, event in enumerate(events) if event.warnings]
    trained = [place for place, event in enumerate(events) if event.stage == "training odd"]
    assert len(warned) == 1
    assert warned[0] < trained[0]
    assert events[warned[0]].warnings == tuple(f"odd: {one}" for one in result.warnings)
    assert "--choices-column answer0 --choices-column answer1" in result.warnings[0]
    assert result.data["unread"] == ["answer0", "answer1"]


def test_an_executor_that_fails_leaves_the_bank_as_it_was(
    bank: Bank, data: Path, tmp_path: Path
) -> None:
    class Broken:
        def run(self, job: AddJob, **_told: object) -> FinishedJob:
            raise ExpertBankError("the cluster is down")

    bank.init()
    before = held(tmp_path / "bank")
    with pytest.raises(ExpertBankError, match="the cluster is down"):
        bank.add("films", data=data, train=SHORT, on=Broken())
    assert held(tmp_path / "bank") == before
