"""Which error becomes which status, and that none tells of the inside."""

from __future__ import annotations

import pytest

from expertbank.errors import (
    DataError,
    ExpertBankError,
    InputError,
    IntegrityError,
    LockedError,
    NotFoundError,
    SchemaTooNewError,
    StaleError,
)
from expertbank.http.problems import MEANINGS, RefusedError, problem_of
from expertbank.serving.errors import DeadlineError, NotReadyError, QueueFullError, TooLargeError

SECRET = "/srv/bank/objects/ab12 is not ab12"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RefusedError(415, "send JSON"), 415, 2),
        (InputError("row 0: empty"), 422, 2),
        (DataError("row 0: empty"), 422, 2),
        (TooLargeError("600 rows"), 413, 2),
        (NotFoundError("no model"), 404, 10),
        (QueueFullError("full", 2.2), 429, 1),
        (DeadlineError("late"), 504, 1),
        (NotReadyError(SECRET), 503, 1),
        (StaleError(SECRET), 503, 4),
        (LockedError(SECRET), 503, 11),
        (SchemaTooNewError(SECRET), 500, 12),
        (IntegrityError(SECRET), 500, 13),
        (ExpertBankError(SECRET), 500, 1),
        (OSError(2, "No such file", "/srv/bank"), 500, 1),
        (ValueError(SECRET), 500, 1),
        (MemoryError(), 503, 1),
    ],
)
def test_every_error_has_its_status_and_its_exit_code(
    error: Exception, status: int, code: int
) -> None:
    found = problem_of(error)
    assert (found.status, found.code) == (status, code)
    document = found.to_dict("id")
    assert document["meaning"] == MEANINGS[code]
    assert "/srv" not in str(document)
    assert document["detail"] == document["error"]
    assert document["instance"] == "urn:expertbank:request:id"


def test_a_full_queue_says_when_to_come_again() -> None:
    assert problem_of(QueueFullError("full", 2.2)).headers["Retry-After"] == "3"
    assert problem_of(QueueFullError("full", 0.0)).headers["Retry-After"] == "1"
