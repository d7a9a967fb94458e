"""What a router chooses for evaluation rows, to be counted."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from expertbank.evaluation.routing import Routed
from expertbank.records import RowShape
from expertbank.routing.router import Router


def routed(
    router: Router, features: Tensor, shapes: Sequence[RowShape]
) -> tuple[Routed, float | None]:
    """Route rows as ``predict`` does.

    Args:
        router: the fitted router.
        features: ``[rows, dimension]``.
        shapes: per row what it brings.

    Returns:
        The choices, and the share of rows called unknown; ``None`` where that is not judged.

    Raises:
        IntegrityError: features of another width than the gate's.
    """
    choice = router.route(features, shapes)
    found = Routed(
        choice.index.numpy().astype("int32"), choice.confidence.numpy().astype("float32")
    )
    return found, None if choice.unknown is None else float(choice.unknown.double().mean())
