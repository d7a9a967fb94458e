"""Errors as the few reasons that are counted."""

from __future__ import annotations

from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.serving.errors import (
    DeadlineError,
    NotReadyError,
    QueueFullError,
    TooLargeError,
)
from expertbank.serving.observer import Reason

_REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (QueueFullError, "queue_full"),
    (DeadlineError, "deadline"),
    (NotReadyError, "not_ready"),
    (TooLargeError, "too_large"),
    (IntegrityError, "integrity"),
    (NotFoundError, "not_found"),
    (InputError, "input"),
)


def reason_of(error: BaseException) -> Reason:
    """Why a request failed; ``internal`` where nobody foresaw it."""
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), "internal")
