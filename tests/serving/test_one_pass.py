"""Rows that ask different things of one predictor, answered in one pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
from serving_bank import CHOICES, rows

from expertbank import Bank, Prediction, Row
from expertbank.errors import InputError
from expertbank.workflows.answering.decision import Decision
from expertbank.workflows.answering.predict import Predictor
from expertbank.workflows.answering.prediction import Question


def asked(predictor: Predictor, row: Row, decision: Decision) -> Question:
    (question,) = predictor.questions([row], decision)
    assert isinstance(question, Question)
    return question


def same(found: Prediction, expected: Prediction) -> bool:
    """Equal but for the last bits, which depend on what else is in a pass."""

    def plain(one: Prediction) -> Prediction:
        return replace(one, index=0, confidence=0, unknown_score=None, scores={}, answers=())

    both = ((found, *found.answers), (expected, *expected.answers))
    return len(both[0]) == len(both[1]) and all(
        plain(one) == plain(other)
        and one.confidence == pytest.approx(other.confidence, abs=1e-5)
        and one.scores == pytest.approx(other.scores, abs=1e-5)
        for one, other in zip(*both, strict=True)
    )


def test_named_routed_abstaining_and_spared_rows_share_a_pass_and_answer_as_predict_does(
    bank: Bank,
) -> None:
    predictor = bank.predictor()
    options: list[dict[str, object]] = [
        {},
        {"task": "laws"},
        {"task": "films"},
        {"abstain": True},
        {"fallback": "laws"},
    ]
    strange = Row("cell gene virus cell gene virus river sky cell gene virus " * 2)
    texts = [*rows(40), *[strange] * 5]
    pairs = [(row, options[place % len(options)]) for place, row in enumerate(texts)]
    pairs += [(CHOICES, {}), (CHOICES, {"task": "places"})]
    questions = [
        asked(predictor, row, predictor.decision(**given))  # type: ignore[arg-type]
        for row, given in pairs
    ]
    found = predictor.answer(questions, batch_size=len(questions))
    for (row, given), answer in zip(pairs, found, strict=True):
        (alone,) = predictor.predict(row, **given)  # type: ignore[arg-type]
        assert same(answer, alone), (row, given)
    assert any(one.answers for one in found), "a group answered too"
    assert any(one.abstained for one in found), "unknown rows were among them"


def test_predict_and_questions_answered_in_the_same_batches_agree_to_the_bit(bank: Bank) -> None:
    predictor = bank.predictor()
    texts = rows(70)
    questions = predictor.questions(texts, predictor.decision())
    given = [one for one in questions if isinstance(one, Question)]
    assert predictor.answer(given) == list(predictor.predict(texts))


def test_a_row_that_cannot_be_answered_stands_as_its_error_among_the_others(bank: Bank) -> None:
    predictor = bank.predictor()
    found = predictor.questions([*rows(2), CHOICES, *rows(1)], predictor.decision("laws"))
    assert [type(one) is Question for one in found] == [True, True, False, True]
    assert isinstance(found[2], InputError)
    assert [one.index for one in found if isinstance(one, Question)] == [0, 1, 3]


@pytest.mark.parametrize("count", [0, 1])
def test_no_row_and_one_row_are_answered(bank: Bank, count: int) -> None:
    predictor = bank.predictor()
    given = [
        one
        for one in predictor.questions(rows(count), predictor.decision())
        if isinstance(one, Question)
    ]
    assert len(predictor.answer(given)) == count


def test_a_prediction_names_the_digest_of_the_expert_that_gave_it(bank: Bank) -> None:
    digests = {expert.id: expert.digest for expert in bank.experts()}
    for one in bank.predict(list(rows(20))):
        assert one.expert_digest == digests[one.expert]
