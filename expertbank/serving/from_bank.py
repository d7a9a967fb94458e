"""States of a bank: the active router, and every version of the experts of its tasks."""

from __future__ import annotations

from expertbank.bank import Bank
from expertbank.serving.live import ServingState


class BankSource:
    """States of an open bank, which stays the caller's to close.

    Args:
        bank: the bank; may be open read-only.
    """

    def __init__(self, bank: Bank) -> None:
        self.bank = bank

    def load(self, earlier: ServingState | None) -> ServingState:
        """See ``Source.load``."""
        raise NotImplementedError

    def changed(self, served: ServingState) -> bool:
        """See ``Source.changed``; looks at the active router, and at the tasks' experts."""
        raise NotImplementedError
