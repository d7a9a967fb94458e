"""Who answers: the experts of the bank, or of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .session import Session

if TYPE_CHECKING:
    from expertbank.workflows.answering.experts import Experts
    from expertbank.workflows.answering.predict import Predictor


def answering(
    session: Session, stack: ExitStack, bundle: Path | None, backbone: str | None
) -> tuple[Experts, Callable[[], Predictor]]:
    """Who may be named to answer, and what loads the backbone."""
    if bundle is None:
        bank = stack.enter_context(session.bank(read_only=True, backbone=backbone))
        return bank.answerers, bank.predictor
    from expertbank.workflows.answering.serve import open_bundle

    opened = open_bundle(bundle)
    for remark in opened.remarks:
        session.remark(f"note: {remark}")
    return opened.experts, lambda: opened.predictor(backbone, session.device)
