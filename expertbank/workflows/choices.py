"""What a router chooses for evaluation rows, as it is stored: with and without the mask."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from expertbank.evaluation.evidence import RoutedEvidence
from expertbank.models.gates import Router
from expertbank.records import RowShape


def routed_evidence(
    router: Router, unmasked: Router | None, features: Tensor, shapes: Sequence[RowShape]
) -> tuple[RoutedEvidence, float | None]:
    """Route rows as ``predict`` does, and once more by a gate that knows no candidate mask.

    Args:
        router: the fitted gate.
        unmasked: the same members fitted with every column a candidate for every row, see
            ``training.router.fit_without_mask``; ``None`` where there is none, and then the
            evidence keeps no free choice.
        features: ``[rows, dimension]``.
        shapes: per row what it brings.

    Returns:
        The evidence, and the share of rows called unknown; ``None`` where that is not judged.

    Raises:
        IntegrityError: features of another width than the gate's.
    """
    choice = router.route(features, shapes)
    free = None if unmasked is None else unmasked.scores(features).argmax(1).cpu().numpy()
    evidence = RoutedEvidence(
        choice.index.numpy().astype("int32"),
        choice.confidence.numpy().astype("float32"),
        None if free is None else free.astype("int32"),
    )
    return evidence, None if choice.unknown is None else float(choice.unknown.double().mean())
