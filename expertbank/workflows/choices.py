"""What a router chooses for evaluation rows, as it is stored: with and without the mask."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from expertbank.evaluation.evidence import RoutedEvidence
from expertbank.models.gates import Router
from expertbank.records import RowShape


def routed_evidence(
    router: Router, features: Tensor, shapes: Sequence[RowShape]
) -> tuple[RoutedEvidence, float | None]:
    """Route rows as ``predict`` does, and once more with every member a candidate.

    Args:
        router: the fitted gate.
        features: ``[rows, dimension]``.
        shapes: per row what it brings.

    Returns:
        The evidence, and the share of rows called unknown; ``None`` where that is not judged.

    Raises:
        IntegrityError: features of another width than the gate's.
    """
    choice = router.route(features, shapes)
    # The choice alone: ``route`` would judge a second time whether the rows are unknown.
    free = router.scores(features).argmax(1)
    evidence = RoutedEvidence(
        choice.index.numpy().astype("int32"),
        choice.confidence.numpy().astype("float32"),
        free.cpu().numpy().astype("int32"),
    )
    return evidence, None if choice.unknown is None else float(choice.unknown.double().mean())
