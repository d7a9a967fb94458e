"""Several experts at once: versions in the list's order, and one that fails alone."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from small_bank import write_task

from expertbank import AddJob, Bank, TaskSpec, TrainConfig
from expertbank.data.spec import Columns
from expertbank.errors import ExpertBankError, InputError, TrainingError
from expertbank.records import ProgressEvent
from expertbank.workflows.growing.crowd import Happened
from expertbank.workflows.growing.on_processes import Processes
from expertbank.workflows.growing.on_ray import Ray
from expertbank.workflows.growing.request import AddRequest
from expertbank.workflows.growing.working import Backbones


class InTurn:
    """A crowd of two in this process: the job that was begun first is worked on first."""

    width = 2

    def __init__(self) -> None:
        self.backbones, self.begun, self.told = Backbones("cpu"), deque[AddJob](), deque[Happened]()
        self.names: list[str] = []
        self.stopped: list[str] = []

    def start(self, job: AddJob, state: bytes | None) -> None:
        self.names.append(job.entry.id)
        self.begun.append(job)

    def stop(self, job: str) -> None:
        self.stopped.append(job)
        self.told = deque(one for one in self.told if one.job != job)

    def wait(self) -> Happened:
        if not self.told:
            done = self.backbones.result(self.begun.popleft(), None, self.told.append)
            self.told.append(done)
        return self.told.popleft()

    def __enter__(self) -> InTurn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.begun.clear()


@pytest.fixture
def bank(own_backbone: Path, tmp_path: Path) -> Bank:
    return Bank.open(tmp_path / "bank", backbone=str(own_backbone))


@pytest.fixture(scope="module")
def films(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> AddJob:
    """A job that is prepared."""
    folder = tmp_path_factory.mktemp("films")
    data = write_task(folder / "films.csv", "films", 40)
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        return bank.prepare("films", data=data, train=TrainConfig(epochs=1))


def wish(folder: Path, task: str, *, new_version: bool = False, seed: int = 0) -> AddRequest:
    data = write_task(folder / f"{task}.csv", task, 40)
    train = TrainConfig(epochs=1, seed=seed)
    return AddRequest(task, data, None, train, None, new_version)


def test_versions_of_one_task_are_made_in_the_lists_order(bank: Bank, tmp_path: Path) -> None:
    films = [wish(tmp_path, "films", new_version=seed > 0, seed=seed) for seed in range(3)]
    wishes, crowd = [*films[:2], wish(tmp_path, "laws"), films[2]], InTurn()
    with bank:
        found = bank.add_many(wishes, crowd)
    assert not [one for one in found if isinstance(one, Exception)]
    assert [one.expert.id for one in found] == ["films@1", "films@2", "laws@1", "films@3"]
    assert crowd.names[:2] == ["films@1", "laws@1"], "one that waits holds up no other task"


def test_a_state_that_cannot_be_kept_ends_its_own_job_alone(bank: Bank, tmp_path: Path) -> None:
    wishes, crowd = [wish(tmp_path, "films"), wish(tmp_path, "laws")], InTurn()
    with bank:
        (tmp_path / "bank" / "checkpoints" / "films.safetensors").mkdir(parents=True)
        films, laws = bank.add_many(wishes, crowd)
        assert isinstance(films, ExpertBankError)
        assert "films.safetensors" in str(films)
        assert not isinstance(laws, Exception)
        assert [one.id for one in bank.experts()] == ["laws@1"]
    assert crowd.stopped == ["films@1"]


@pytest.mark.parametrize("crowd", [None, InTurn()], ids=["here", "at once"])
def test_a_defect_in_one_request_is_its_failure_and_the_others_are_done(
    crowd: InTurn | None, bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked(spec: TaskSpec, *args: Any) -> None:
        if spec.name == "films":
            raise ZeroDivisionError

    monkeypatch.setattr("expertbank.workflows.growing.prepare.require_settings", checked)
    told: list[str] = []
    with bank:
        films, laws = bank.add_many(
            [wish(tmp_path, "films"), wish(tmp_path, "laws")],
            crowd,
            added=lambda one: told.append(one.expert.id),
        )
    assert isinstance(films, ZeroDivisionError)
    assert not isinstance(laws, Exception)
    assert told == ["laws@1"]


def grouped(folder: Path) -> tuple[AddRequest, AddRequest]:
    """A task of single texts and one of pairs, for one group."""
    films = replace(wish(folder, "films"), group="g1")
    header, *rows = films.data.read_text(encoding="utf-8").splitlines()
    pairs = folder / "pairs.csv"
    lines = [f"premise,{header}", *(f"so {n % 5},{row}" for n, row in enumerate(rows))]
    pairs.write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = Columns(text="premise", text_pair="text")
    spec = TaskSpec("both", columns=columns)
    return films, AddRequest(spec, pairs, train=TrainConfig(epochs=1), group="g1")


def test_of_pairs_and_single_texts_at_once_the_later_does_not_come_into_the_group(
    bank: Bank, tmp_path: Path
) -> None:
    with bank:
        films, both = bank.add_many(grouped(tmp_path), InTurn())
        assert not isinstance(films, Exception)
        assert isinstance(both, InputError)
        assert "group g1 holds films, a task of single texts; both is a task of pairs" in str(both)
        assert [one.id for one in bank.experts()] == ["films@1"]


def test_what_comes_in_between_the_question_and_the_commit_is_held_against_too(
    bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes may ask at the same time; in the transaction that writes, one is first."""
    asked = "expertbank.workflows.growing.add.require_free_names"
    monkeypatch.setattr(asked, lambda registry, tasks: None)
    with bank:
        films, both = bank.add_many(grouped(tmp_path), InTurn())
        assert not isinstance(films, Exception)
        assert isinstance(both, InputError)
        assert [one.name for one in bank.tasks()] == ["films"]


class OddError(Exception):
    """Made from more than its one argument."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(f"row {row}: {why}")


class OddInputError(InputError, OddError):
    """The same, as a plugin may raise it for its user."""


class OddRefusalError(OSError):
    """What no other process can have."""

    def __init__(self) -> None:
        super().__init__("refused")
        self.held = lambda: None


@pytest.mark.parametrize(
    ("raised", "kind", "text"),
    [
        (OddError(3, "too odd"), TrainingError, "films@1: OddError: row 3: too odd"),
        (OddInputError(3, "too odd"), InputError, "row 3: too odd"),
        (OddRefusalError(), TrainingError, "films@1: OddRefusalError: refused"),
        (FileNotFoundError(2, "none", "here"), FileNotFoundError, "[Errno 2] none: 'here'"),
    ],
)
def test_any_error_of_a_worker_comes_back_with_its_reason(
    films: AddJob, raised: Exception, kind: type[Exception], text: str
) -> None:
    def tell(happened: Happened) -> None:
        raise raised

    found = pickle.loads(pickle.dumps(Backbones("cpu").result(films, None, tell)))
    assert type(found.error) is kind
    assert str(found.error) == text


def test_the_process_of_a_job_that_is_stopped_is_gone(films: AddJob) -> None:
    with Processes(1, threads=1, device="cpu") as crowd:
        crowd.start(films, None)
        assert crowd.wait().event is not None
        (process,) = multiprocessing.active_children()
        crowd.stop("films@1")
        assert not process.is_alive()


@pytest.mark.parametrize("number", [-1, 0, 1.5, "2", True])
def test_a_number_of_workers_or_threads_that_cannot_be_is_refused(number: Any) -> None:
    for made, what in (
        (lambda: Processes(number), "workers"),
        (lambda: Processes(1, threads=number), "threads"),
        (lambda: Ray(threads=number), "threads"),
    ):
        with pytest.raises(InputError, match=f"{what} must be (a whole number|at least 1)"):
            made()


@pytest.mark.slow
def test_ray_tells_of_a_finished_job_while_another_never_stops_speaking(films: AddJob) -> None:
    ray = pytest.importorskip("ray")

    def speak(
        job: AddJob, state: bytes | None, number: int, queue: Any, threads: int, device: str | None
    ) -> Happened:
        """The first version never stops, the second has nothing to say."""
        while job.entry.version == 1:
            queue.put((number, Happened(job.entry.id, event=ProgressEvent("train", 1, 2))))
        return Happened(job.entry.id, error=ExpertBankError("no"))

    later = replace(films, entry=replace(films.entry, version=2))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with Ray() as crowd:
            crowd._task = ray.remote(num_cpus=1, max_retries=0)(speak)
            crowd.start(films, None)
            assert crowd.wait().event is not None
            crowd.start(later, None)
            told = iter(crowd.wait, None)
            assert next(one.job for one in told if one.error is not None) == "films@2"
            crowd.stop("films@1")
            crowd.start(later, None)
            assert crowd.wait().job == "films@2", "of what is stopped nothing more is told"
    finally:
        ray.shutdown()
