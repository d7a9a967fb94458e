"""An interrupted training goes on from its last kept state and gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from jobs import TRAINED, job_for, rows_of_kind, suiting

from expertbank.config import AdapterConfig
from expertbank.errors import InputError, IntegrityError
from expertbank.records import ProgressEvent
from expertbank.training import expert
from expertbank.training.checkpoint import Checkpoint
from expertbank.training.expert import ExpertJob, TrainedExpert, job_digest, train_expert

STEPS = 6
"""48 rows in batches of 16, two epochs."""


class InterruptionError(Exception):
    """The process is asked to stop."""


@pytest.fixture(autouse=True)
def _keep_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expert, "KEEP_SECONDS", 0.0)


def interrupted(backbone, job: ExpertJob, after: int, resume: bytes | None = None) -> bytes:
    """The last kept state of a run that is stopped when it keeps its ``after``-th."""
    kept: list[bytes] = []

    def keep(data: bytes) -> None:
        kept.append(data)
        if len(kept) == after:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train_expert(job, backbone, resume=resume, keep=keep)
    return kept[-1]


def facts(trained: TrainedExpert) -> tuple[object, ...]:
    """All that must not depend on an interruption."""
    return (
        trained.file.to_bytes(),
        trained.best_epoch,
        trained.selection_score,
        trained.tokens,
        trained.adapter_params,
        trained.head_params,
    )


@pytest.mark.parametrize("kind", TRAINED)
@pytest.mark.parametrize("after", range(1, STEPS + 1))
def test_a_run_resumed_after_any_step_gives_the_bytes_of_an_undisturbed_one(
    load_tiny, kind, after: int
) -> None:
    backbone = load_tiny(suiting(kind))
    job = job_for(backbone, kind=kind)
    whole = facts(train_expert(job, backbone))
    state = interrupted(backbone, job, after)
    assert Checkpoint.from_bytes(state, "here", job_digest(job, backbone)).step == after
    assert facts(train_expert(job, backbone, resume=state)) == whole


@pytest.mark.parametrize("cache_bytes", [0, 30_000, 2**30])
def test_what_was_cached_before_an_interruption_is_cached_alike_after_it(
    bert, cache_bytes: int
) -> None:
    settings = {"accumulate": 3, "checkpoint_layers": True, "cache_bytes": cache_bytes}
    job = job_for(bert, **settings)
    whole = train_expert(job, bert)
    again = train_expert(job, bert, resume=interrupted(bert, job, 4))
    assert facts(again) == facts(whole)
    assert (again.cached_rows, again.cached_bytes) == (whole.cached_rows, whole.cached_bytes)
    assert (0 < whole.cached_rows < 72) == (cache_bytes == 30_000)


def test_a_run_may_be_interrupted_again_and_again(bert) -> None:
    job = job_for(bert)
    state: bytes | None = None
    for _ in range(STEPS):
        state = interrupted(bert, job, 1, resume=state)
    assert facts(train_expert(job, bert, resume=state)) == facts(train_expert(job, bert))


@pytest.mark.parametrize("family", ["llama", "distilbert"])
def test_other_families_resume_too(load_tiny, family: str) -> None:
    backbone = load_tiny(family)
    job = job_for(backbone, adapter=AdapterConfig(tt_rank=2, projections=("value",)))
    state = interrupted(backbone, job, 2)
    assert facts(train_expert(job, backbone, resume=state)) == facts(train_expert(job, backbone))


def test_an_interruption_between_two_kept_states_costs_only_what_came_after_the_last(bert) -> None:
    job = job_for(bert)
    kept: list[bytes] = []

    def stop(event: ProgressEvent) -> None:
        if event.stage.startswith("training") and len(kept) == 3:
            raise InterruptionError

    # Heard at most five times a second, and always at the end.
    with pytest.raises(InterruptionError):
        train_expert(
            job, bert, stop, keep=lambda data: kept.append(data) if len(kept) < 3 else None
        )
    assert len(kept) == 3
    assert facts(train_expert(job, bert, resume=kept[-1])) == facts(train_expert(job, bert))


def ends_early(backbone) -> ExpertJob:
    """With the labels swapped, what is learnt makes the held-out rows worse and worse."""
    swapped = tuple(
        replace(row, target=1 - (row.target or 0)) for row in rows_of_kind("classification", 48, 2)
    )
    how = {"epochs": 9, "lr": 2e-2, "patience": 2, "average_steps": 1}
    return replace(job_for(backbone, rows=96, **how), selection=swapped)


def counted(run: Callable[[], TrainedExpert], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many optimiser steps a run makes."""
    steps = 0
    real = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *arguments: object, **named: object) -> object:
        nonlocal steps
        steps += 1
        return real(self, *arguments, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        run()
    return steps


def test_a_run_that_had_ended_early_does_not_go_on_when_resumed(
    bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ends_early(bert)
    kept: list[bytes] = []
    whole = train_expert(job, bert, keep=kept.append)
    steps = (whole.best_epoch + 2) * 6
    assert len(kept) == steps < 9 * 6
    assert facts(train_expert(job, bert, resume=interrupted(bert, job, steps))) == facts(whole)
    assert counted(lambda: train_expert(job, bert, resume=kept[-1]), monkeypatch) == 0
    assert counted(lambda: train_expert(job, bert, resume=kept[-2]), monkeypatch) == 1
    for place in (-2, -7, -8):
        assert facts(train_expert(job, bert, resume=kept[place])) == facts(whole)


def test_a_resumed_run_does_only_the_steps_that_are_left(
    bert, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_for(bert)
    state = interrupted(bert, job, 4)
    assert counted(lambda: train_expert(job, bert), monkeypatch) == STEPS
    assert counted(lambda: train_expert(job, bert, resume=state), monkeypatch) == STEPS - 4
    done = interrupted(bert, job, STEPS)
    assert counted(lambda: train_expert(job, bert, resume=done), monkeypatch) == 0


def test_time_spent_before_an_interruption_counts_as_the_tokens_do(bert) -> None:
    job = job_for(bert)
    state = interrupted(bert, job, STEPS)
    before = Checkpoint.from_bytes(state, "here", job_digest(job, bert))
    trained = train_expert(job, bert, resume=state)
    assert trained.tokens == before.tokens
    assert trained.seconds > before.seconds > 0


def test_progress_goes_on_where_it_stopped_and_ends_at_the_total(bert) -> None:
    job = job_for(bert)
    events: list[ProgressEvent] = []
    train_expert(job, bert, events.append, resume=interrupted(bert, job, 4))
    # The cached trunk states are made anew; the head's start is not.
    assert {event.stage for event in events} == {"running the trunk for sky", "training sky"}
    trained = [event for event in events if event.stage == "training sky"]
    assert trained[0].done > 4 * 16 - 1
    assert (events[-1].done, events[-1].total) == (96, 96)


def test_global_random_state_and_the_backbone_stay_as_they_were(bert) -> None:
    job = job_for(bert)
    before = {name: tensor.clone() for name, tensor in bert.model.state_dict().items()}
    random = torch.random.get_rng_state()
    state = interrupted(bert, job, 2)
    for module in bert.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    train_expert(job, bert, resume=state)
    assert torch.equal(torch.random.get_rng_state(), random)
    after = bert.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


CHANGES: dict[str, Callable[[ExpertJob], ExpertJob]] = {
    "another rate": lambda job: replace(job, config=replace(job.config, lr=1e-4)),
    "more epochs": lambda job: replace(job, config=replace(job.config, epochs=3)),
    "another seed": lambda job: replace(job, config=replace(job.config, seed=1)),
    "balance": lambda job: replace(job, config=replace(job.config, balance=True)),
    "another patience": lambda job: replace(job, config=replace(job.config, patience=7)),
    "more micro-batches": lambda job: replace(job, config=replace(job.config, accumulate=2)),
    "recomputed layers": lambda job: replace(
        job, config=replace(job.config, checkpoint_layers=True)
    ),
    "less cache": lambda job: replace(job, config=replace(job.config, cache_bytes=0)),
    "another dtype": lambda job: replace(job, spec=replace(job.spec, dtype="bfloat16")),
    "another rank": lambda job: replace(job, adapter=AdapterConfig(tt_rank=2)),
    "a row less": lambda job: replace(job, train=job.train[1:]),
    "two rows swapped": lambda job: replace(
        job, train=(job.train[1], job.train[0], *job.train[2:])
    ),
    "another target": lambda job: replace(
        job, train=(replace(job.train[0], target=1 - (job.train[0].target or 0)), *job.train[1:])
    ),
    "another held-out row": lambda job: replace(job, selection=job.selection[1:]),
    "another task": lambda job: replace(job, task="sea"),
    "other labels": lambda job: replace(job, labels=("blue", "red")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_state_of_another_job_is_refused_with_what_to_do(bert, change: str) -> None:
    job = job_for(bert)
    state = interrupted(bert, job, 1)
    with pytest.raises(InputError, match="repeat its command exactly, or leave --resume out"):
        train_expert(CHANGES[change](job), bert, resume=state)


def test_the_state_of_a_run_over_another_backbone_or_thread_count_is_refused(
    bert, load_tiny
) -> None:
    job = job_for(bert)
    state = interrupted(bert, job, 1)
    with pytest.raises(InputError, match="--resume"):
        train_expert(job, load_tiny("electra"), resume=state)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(InputError, match="threads"):
            train_expert(job, bert, resume=state)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("spoil", ["text", "a pickle", "truncated", "an expert"])
def test_what_is_no_state_is_refused(bert, spoil: str) -> None:
    job = job_for(bert)
    state = interrupted(bert, job, 1)
    data = {
        "text": b"not a file of ours",
        "a pickle": b"\x80\x04\x95" + state,
        "truncated": state[: len(state) // 2],
        "an expert": train_expert(job, bert).file.to_bytes(),
    }[spoil]
    with pytest.raises(IntegrityError, match="checkpoint"):
        train_expert(job, bert, resume=data)


def test_without_a_keeper_nothing_is_kept_and_the_bytes_are_the_same(bert) -> None:
    job = job_for(bert)
    kept: list[bytes] = []
    with_keeper = train_expert(job, bert, keep=kept.append)
    assert len(kept) == STEPS
    assert facts(with_keeper) == facts(train_expert(job, bert))


def test_every_epoch_is_kept_however_short_it_was(bert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expert, "KEEP_SECONDS", 1e9)
    job = job_for(bert, epochs=3)
    kept: list[bytes] = []
    train_expert(job, bert, keep=kept.append)
    identity = job_digest(job, bert)
    assert [Checkpoint.from_bytes(data, "here", identity).step for data in kept] == [3, 6, 9]
