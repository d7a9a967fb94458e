"""Which tasks came close: what a router thinks of a row beyond its choice, for people to see."""

from __future__ import annotations

from expertbank.errors import InputError
from expertbank.records import Row
from expertbank.workflows.answering.predict import Predictor

MOST = 5
"""Tasks that are told."""


def near(predictor: Predictor, row: Row, most: int = MOST) -> tuple[tuple[str, float], ...]:
    """The router's probability of the tasks that may answer a row, the highest first.

    It takes a pass through the trunk of its own, in the calling thread.

    Args:
        predictor: of the state that answered.
        row: the row.
        most: how many tasks.

    Returns:
        Names and probabilities; tasks of a group are one, joined by `` + ``. Empty without a
        router, or for a row that it cannot send anywhere.
    """
    router = predictor.router
    if router is None:
        return ()
    (asked,) = predictor.questions([row], predictor.decision())
    if isinstance(asked, InputError):
        return ()
    (batch,) = predictor.model.batches([asked.encoded], 1)
    features = predictor.model.trunk_features(batch).cpu()
    (found,) = router.probabilities(features, [row.shape]).tolist()
    (allowed,) = router.candidates([row.shape]).tolist()
    named = [
        (" + ".join(member.task for member in members), probability)
        for members, probability, may in zip(router.columns, found, allowed, strict=True)
        if may
    ]
    return tuple(sorted(named, key=lambda one: -one[1])[:most])
