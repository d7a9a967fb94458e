"""Why a request is not answered though there is nothing wrong with what it asks."""

from __future__ import annotations

from expertbank.errors import ExpertBankError, InputError


class QueueFullError(ExpertBankError):
    """More waits than can be answered in time; nothing of this request was queued.

    Attributes:
        retry_after: seconds after which there should be room, from the measured throughput.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineError(ExpertBankError):
    """The request's deadline passed before it was answered; what was left of it was not done."""


class NotReadyError(ExpertBankError):
    """Nothing is loaded yet, the worker has died, or the server is on its way out."""


class TooManyTokensError(InputError):
    """A row that is longer than the bank reads, of a caller who wants it read whole."""


class TooLargeError(InputError):
    """More rows than one request may bring, or than the queue could ever hold."""
