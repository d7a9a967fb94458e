"""What a router chooses for evaluation rows, to be counted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from expertbank.evaluation.routing import Routed
from expertbank.records import RowShape
from expertbank.routing.router import Router
from expertbank.routing.sureness import unasked


def routed(
    router: Router,
    features: Tensor,
    shapes: Sequence[RowShape],
    home: int | None = None,
    sureness: Tensor | None = None,
) -> tuple[Routed, float | None]:
    """Route rows as ``predict`` does.

    Args:
        router: the fitted router.
        features: ``[rows, dimension]``.
        shapes: per row what it brings.
        home: column of the rows' own task.
        sureness: ``[rows]`` int16 of that task's expert; rows that go elsewhere are judged without.

    Returns:
        The choices, and the share of rows called unknown; ``None`` where that is not judged.

    Raises:
        IntegrityError: features of another width than the gate's.
    """
    choice = router.route(features, shapes)
    found = Routed(
        choice.index.numpy().astype("int32"), choice.confidence.numpy().astype("float32")
    )
    own = None
    if sureness is not None and home is not None:
        own = sureness.where(choice.index == home, unasked(len(features)))
    judged = router.judge(choice.strangeness, choice.index, None, own)
    return found, None if judged is None else float(judged.unknown.double().mean())
