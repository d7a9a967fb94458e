"""Where the two best tasks lie close, both experts are asked, and sureness decides."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import norm
from small_bank import texts

from expertbank import Bank, Predictor
from expertbank.errors import InputError
from expertbank.routing.router import Router
from expertbank.routing.unknown import TELLING, UnknownModel

MEAN, DEVIATION, GUESS = 120.0, 30.0, 20.0


def close_calls(router: Router) -> Router:
    """The router, to which all tasks are alike, with experts that tell their own rows."""
    model = router.unknown
    assert isinstance(model, UnknownModel)
    told = torch.tensor([[MEAN], [DEVIATION], [GUESS]]).repeat(1, len(router.columns))
    return replace(router, temperature=1e3, unknown=replace(model, sure=told))


@pytest.fixture(scope="module")
def predictor(made_job: Path) -> Predictor:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        plain = bank.predictor()
        assert plain.router is not None
        return Predictor(plain.model, plain.experts, close_calls(plain.router))


def evidence(sure: float) -> float:
    """Log-odds of the two normal densities, in steps of 1/64."""
    steps, others = round(sure * 64), (MEAN + GUESS) / 2
    mine = norm.logpdf(steps, MEAN, DEVIATION)
    return float(mine - norm.logpdf(steps, others, DEVIATION))


def test_the_expert_answers_whose_row_it_is_likelier_by_how_sure_each_is(
    predictor: Predictor,
) -> None:
    rows = texts(40)
    alone = list(predictor.predict(rows))
    asked = list(predictor.predict(rows, second_opinion=True))
    named = {task: list(predictor.predict(rows, task=task)) for task in predictor.tasks}
    moved = 0
    for place, (one, both) in enumerate(zip(alone, asked, strict=True)):
        first, second = (near.tasks[0] for near in one.near[:2])
        odds = []
        for task, near in zip((first, second), one.near[:2], strict=True):
            best = max(named[task][place].scores.values())
            sure = 14.0 if best == 1 else -math.log1p(-best)
            odds.append(math.log(near.probability) + evidence(min(sure, 14.0)))
        if abs(odds[0] - odds[1]) < 0.1:
            continue  # a step of sureness may lie between
        winner, other = (second, first) if odds[1] > odds[0] else (first, second)
        assert (both.task, both.second) == (winner, named[other][place].expert)
        assert both.label == named[winner][place].label
        assert both.scores == pytest.approx(named[winner][place].scores, abs=1e-5)
        share = 1 / (1 + math.exp(-abs(odds[0] - odds[1])))
        weight = sum(near.probability for near in one.near[:2])
        assert both.confidence == pytest.approx(share * weight, abs=0.02)
        moved += winner != one.task
    assert moved > 5, "else the test shows little"


def test_nobody_is_asked_twice_who_would_not_tell_and_not_without_being_wished(
    predictor: Predictor,
) -> None:
    router = predictor.router
    assert router is not None
    assert isinstance(router.unknown, UnknownModel)
    assert all(one.second == "" for one in predictor.predict(texts(10)))
    weak = router.unknown.sure.clone()
    weak[1] = (MEAN - GUESS) / TELLING * 1.01
    for blind in (
        replace(router, unknown=replace(router.unknown, sure=weak)),
        replace(router, temperature=1e-3),
    ):
        other = Predictor(predictor.model, predictor.experts, blind)
        found = list(other.predict(texts(10), second_opinion=True))
        assert found == list(other.predict(texts(10)))


def test_a_named_task_has_no_second_opinion(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="no second opinion"):
        predictor.predict(["a film"], task=predictor.tasks[0], second_opinion=True)


def test_a_row_alone_gets_what_it_gets_among_others(predictor: Predictor) -> None:
    rows = texts(12)
    together = list(predictor.predict(rows, second_opinion=True))
    alone = [next(iter(predictor.predict(row, second_opinion=True))) for row in rows]
    assert [(a.task, a.label, a.second) for a in alone] == [
        (a.task, a.label, a.second) for a in together
    ]
