"""What `predict` says of rows that are like no task, from the bank and from a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_bank import texts

from expertbank import Bank, load_bundle
from expertbank.errors import InputError, NotFoundError
from expertbank.routing.router import Router

STRANGE = ["? ? ? ? ? ?", "zq xj", "loan " * 20]


def test_every_routed_answer_says_how_unknown_its_row_is(made_job: Path) -> None:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        answers = bank.predict([*texts(30), *STRANGE])
        assert all(type(a.unknown) is bool and type(a.unknown_score) is float for a in answers)
        assert {a.unknown for a in answers} == {True, False}
        assert sum(a.unknown for a in answers[:30]) <= 10
        bundled = list(load_bundle(made_job / "bundle").predict(map(row_of, texts(30) + STRANGE)))
        named = bank.predict(texts(3), task="films")
    assert [(a.unknown, a.unknown_score) for a in bundled] == [
        (a.unknown, a.unknown_score) for a in answers
    ]
    assert all(a.unknown is None and a.unknown_score is None for a in named)


def row_of(text: str):
    from expertbank.records import Row

    return Row(text)


def test_abstaining_changes_the_answer_of_unknown_rows_only(made_job: Path) -> None:
    rows = [*texts(30), *STRANGE]
    with Bank.open(made_job / "bank", read_only=True) as bank:
        plain, cautious = bank.predict(rows), bank.predict(rows, abstain=True)
    assert any(answer.unknown for answer in plain)
    for one, other in zip(plain, cautious, strict=True):
        if not one.unknown:
            assert one == other
            continue
        assert (other.label, other.scores, other.choice) == ("unknown", {}, None)
        assert (other.index, other.task, other.expert) == (one.index, one.task, one.expert)
        assert (other.unknown, other.unknown_score) == (True, one.unknown_score)


def test_a_fallback_answers_unknown_rows_and_no_others(made_job: Path) -> None:
    rows = [*texts(30), *STRANGE]
    with Bank.open(made_job / "bank", read_only=True) as bank:
        plain = bank.predict(rows)
        strange = [answer.task for answer in plain if answer.unknown]
        spare = min(bank.predictor().tasks, key=strange.count)
        spared, named = bank.predict(rows, fallback=spare), bank.predict(rows, task=spare)
    assert any(task != spare for task in strange)
    for one, other, own in zip(plain, spared, named, strict=True):
        if not one.unknown:
            assert one.task == other.task
            assert one.label == other.label
        else:
            assert (other.task, other.label, other.unknown) == (spare, own.label, True)


def test_only_one_of_task_abstain_and_fallback_can_be_asked_for(made_job: Path) -> None:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        for wish in ({"task": "laws", "abstain": True}, {"abstain": True, "fallback": "laws"}):
            with pytest.raises(InputError, match="only one"):
                bank.predict(["a vote"], **wish)
        with pytest.raises(NotFoundError, match="nowhere"):
            bank.predict(["a vote"], fallback="nowhere")


def test_a_subset_of_a_router_keeps_no_statistics_of_the_tasks_left_out(made_job: Path) -> None:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        record = bank.registry.router()
        whole = bank._workspace.router(record)
    part = whole.subset(["laws", "games"])
    assert part.unknown.means.shape[0] == 2
    rows = [part.column_of("laws"), part.column_of("games")]
    own = [whole.column_of("laws"), whole.column_of("games")]
    assert torch.equal(part.unknown.means[rows], whole.unknown.means[own])
    assert Router.from_bytes(part.to_bytes(), "test").to_bytes() == part.to_bytes()
    left_out = whole.unknown.means[whole.column_of("films")].numpy().tobytes()
    assert left_out in whole.to_bytes()
    assert left_out not in part.to_bytes()
