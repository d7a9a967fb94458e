"""Making a state ready before it answers anyone: experts in memory, a real pass run."""

from __future__ import annotations

from contextlib import suppress

from expertbank.errors import NotFoundError
from expertbank.records import Row
from expertbank.serving.live import ServingState
from expertbank.workflows.answering.decision import Decision, Named
from expertbank.workflows.answering.prediction import Question

ROWS = (
    Row("Shares of the bank rose by four per cent on Monday, its best day this year."),
    Row("is the sky blue", "Rayleigh scattering sends short wavelengths in all directions."),
    Row("Where would you keep milk?", None, ("in a drawer", "in the fridge", "on the roof")),
)
"""One row of each shape. What they say does not matter."""


def warm(state: ServingState) -> None:
    """Load the experts that the state needs, as many as its pool keeps, and answer real rows.

    Raises:
        IntegrityError: an expert's file is damaged, or the router does not fit the features.
        ExpertBankError: something cannot be read.
    """
    predictor = state.predictor
    for expert in state.needed:
        if predictor.model.pool.full:
            break
        predictor.labels_of(expert)
    decisions = _decisions(state)
    questions = [
        one
        for decision in decisions
        for one in predictor.questions(ROWS, decision)
        if isinstance(one, Question)
    ]
    # By row: each shape is a pass of its own, as it will be for who asks alone.
    for question in questions:
        with suppress(NotFoundError):  # a kind that is not installed; others can answer
            predictor.answer([question])


def _decisions(state: ServingState) -> list[Decision]:
    """The router's, or without a router that of one task of each kind."""
    predictor = state.predictor
    if predictor.has_router:
        return [predictor.decision()]
    found: dict[str, Decision] = {}
    for task in predictor.tasks:
        expert = predictor.experts.named(task)
        if expert.kind not in found:
            try:
                found[expert.kind] = Named.of(predictor.checked(expert))
            except NotFoundError:  # a kind that is not installed: nobody can ask for it either
                continue
    return list(found.values())
