"""What `predict` says of rows that are like no task, from the bank and from a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_bank import SHORT, texts, write_task

from expertbank import Bank, Row, load_bundle
from expertbank.errors import InputError, NotFoundError
from expertbank.routing.router import Router

STRANGE = ["? ? ? ? ? ?", "zq xj", "loan " * 20]


def test_every_routed_answer_says_how_unknown_its_row_is(made_job: Path) -> None:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        answers = bank.predict([*texts(30), *STRANGE])
        assert all(type(a.unknown) is bool and type(a.unknown_score) is float for a in answers)
        assert {a.unknown for a in answers} == {True, False}
        assert sum(a.unknown for a in answers[:30]) <= 10
        bundled = list(load_bundle(made_job / "bundle").predict(texts(30) + STRANGE))
        named = bank.predict(texts(3), task="films")
    assert [(a.unknown, a.unknown_score) for a in bundled] == [
        (a.unknown, a.unknown_score) for a in answers
    ]
    assert all(a.unknown is None and a.unknown_score is None for a in named)


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


def test_a_fallbacks_confidence_is_the_routers_probability_of_its_task(made_job: Path) -> None:
    rows = [Row(text) for text in (*texts(30), *STRANGE)]
    with Bank.open(made_job / "bank", read_only=True) as bank:
        predictor = bank.predictor()
        router = bank._workspace.router(bank.registry.router())
        plain = bank.predict(rows)
        spared = {task: bank.predict(rows, fallback=task) for task in predictor.tasks}
    unknown = [place for place, answer in enumerate(plain) if answer.unknown]
    assert unknown
    for place, answer in enumerate(plain):
        by_task = {task: answers[place] for task, answers in spared.items()}
        if place not in unknown:
            assert {one.confidence for one in by_task.values()} == {answer.confidence}
            continue
        # Over all tasks the probabilities of one row come to 1; the chosen task's is the largest.
        assert sum(one.confidence for one in by_task.values()) == pytest.approx(1)
        assert by_task[answer.task].confidence == pytest.approx(answer.confidence)
        assert max(one.confidence for one in by_task.values()) == pytest.approx(answer.confidence)
    features = torch.zeros(2, router.dimension)
    assert torch.allclose(
        router.probabilities(features, ["single", "pair"]).max(1).values,
        router.route(features, ["single", "pair"]).confidence,
    )


def test_a_fallback_that_the_router_does_not_know_has_no_confidence(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        data = write_task(job / "late.csv", "laws", seed=4)
        bank.add("late", data=data, train=SHORT)
        plain, spared = bank.predict(list(STRANGE)), bank.predict(list(STRANGE), fallback="late")
    assert any(answer.unknown for answer in plain)
    for one, other in zip(plain, spared, strict=True):
        if one.unknown:
            assert (other.expert, other.confidence) == ("late@1", 0.0)


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
