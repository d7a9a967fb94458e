"""Errors as problem documents (RFC 9457): a status, one sentence, and nothing of the inside.

Which status: 400 where the request is not what the interface takes, 422 where it is and its rows
cannot be answered (an empty text, choices that no expert reads). ``error`` repeats the sentence as
callers of an address read it: as text for the Open Inference Protocol, under ``/v1/`` in an object
as OpenAI has it, whose client shows nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastapi import Response

from expertbank.errors import (
    ExpertBankError,
    InputError,
    IntegrityError,
    LockedError,
    NotFoundError,
    StaleError,
)
from expertbank.serving.errors import DeadlineError, NotReadyError, QueueFullError, TooLargeError

MEDIA_TYPE = "application/problem+json"
MEANINGS = {
    1: "failed",
    2: "usage or bad input",
    3: "exists",
    4: "stale",
    5: "release gate failed",
    10: "not found",
    11: "locked",
    12: "schema newer than program",
    13: "integrity",
}
"""What the exit codes of the command line mean; ``code`` in a document is one of them."""
DEFECT, _INTEGRITY, _REFUSED = "defect", "integrity", "refused"


class Kind(NamedTuple):
    """What all problems of a status have in common.

    Attributes:
        title: the kind.
        reason: the same in one word, for logs and counters.
        meaning: what the OpenAPI document says of it; empty where no route names it.
    """

    title: str
    reason: str
    meaning: str = ""


KINDS = {
    400: Kind("Malformed request", "malformed", "The request is not what this interface takes."),
    401: Kind("No valid key", "key", "The server asks for a key, and this is none."),
    403: Kind("Not allowed", "cross-site", "A page of another site asked for this."),
    404: Kind("Not found", "not-found", "No such model or version."),
    405: Kind("Method not allowed", "method"),
    408: Kind("Request arrived too slowly", "slow", "The body arrived too slowly."),
    413: Kind("Request too large", "too-large", "Too large a body, or too many rows."),
    415: Kind("Media type not supported", "media-type", "A body of another media type."),
    422: Kind(
        "Rows cannot be answered",
        "input",
        "The request is well-formed, and one of its rows cannot be answered.",
    ),
    429: Kind("Queue full", "queue-full", "Too much waits; Retry-After says when to come again."),
    431: Kind("Headers too large", "headers", "Too large headers."),
    500: Kind("Failed", DEFECT, "Failed inside; the server's log tells why."),
    501: Kind("Transfer encoding not supported", _REFUSED),
    502: Kind(
        "Engine failed", "engine", "The engine behind the router cannot be reached, or broke off."
    ),
    503: Kind("Not ready", "not-ready", "The server cannot answer now."),
    504: Kind("Deadline passed", "deadline", "The deadline passed."),
}
_WORDS = {
    404: "there is nothing at this address",
    405: "this address takes another method, which Allow names",
}
REASONS = (*(kind.reason for kind in KINDS.values()), _INTEGRITY)
"""Every ``Problem.reason``."""


class RefusedError(ExpertBankError):
    """A request that is refused for what it is, whatever it asks for.

    Attributes:
        status: of the answer.
        headers: more headers of the answer.
        error: what stands in the document's ``error``, for callers of another protocol.
    """

    exit_code = 2

    def __init__(
        self,
        status: int,
        detail: str,
        headers: Mapping[str, str] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.error = error


def malformed(detail: str) -> RefusedError:
    """A request that is not what the interface takes."""
    return RefusedError(400, detail)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is told of a request that failed.

    Attributes:
        status: of HTTP.
        detail: one sentence for whoever asked.
        code: exit code that the command line would end with.
        headers: more headers of the answer.
        error: what stands in the document's ``error`` in place of the sentence.
        kind: the reason, where the status does not tell it.
    """

    status: int
    detail: str
    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    kind: str | None = None

    @property
    def title(self) -> str:
        """The kind of problem, the same for all of a kind."""
        return self._of_status.title

    @property
    def reason(self) -> str:
        """The kind in one word, for logs and counters."""
        return self.kind or self._of_status.reason

    @property
    def _of_status(self) -> Kind:
        other = KINDS[500] if self.status >= 500 else Kind("Refused", _REFUSED)
        return KINDS.get(self.status, other)

    def to_dict(self, request_id: str) -> dict[str, Any]:
        """The document of the problem that a request met."""
        return {
            "type": f"urn:expertbank:problem:{self.reason}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": f"urn:expertbank:request:{request_id}",
            "code": self.code,
            "meaning": MEANINGS.get(self.code, MEANINGS[1]),
            "error": self.detail if self.error is None else dict(self.error),
        }


def problem_of(error: BaseException, state: str = "not ready") -> Problem:
    """What is told of an error; of those that could speak of files and insides, only their kind.

    Args:
        error: what happened.
        state: of the server, for the error that it is not ready.
    """
    match error:
        case RefusedError():
            code = _code(error.status)
            return Problem(error.status, str(error), code, error.headers, error.error)
        case QueueFullError():
            wait = {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
            return Problem(429, "too many rows are waiting; try again later", 1, wait)
        case DeadlineError():
            return Problem(504, "the request was not answered within its deadline", 1)
        case NotReadyError():
            return not_ready(state)
        case TooLargeError():
            return Problem(413, str(error), 2)
        case NotFoundError():
            return Problem(404, str(error), error.exit_code)
        case InputError():
            return Problem(422, str(error), error.exit_code)
        case StaleError() | LockedError():
            detail = "the bank changed or is held by another command; try again"
            return Problem(503, detail, error.exit_code, {"Retry-After": "1"})
        case IntegrityError():
            detail = "a stored file is not what its digest says; the server's log tells which"
            return Problem(500, detail, error.exit_code, kind=_INTEGRITY)
        case MemoryError():
            return Problem(503, "there is not enough memory for this request", 1)
        case ExpertBankError():
            detail = "the request could not be answered; the server's log tells why"
            return Problem(500, detail, error.exit_code)
    return Problem(500, "a defect of the server; its log tells more, please report it", 1)


def not_ready(state: str) -> Problem:
    """The server cannot answer now; ``state`` says what it does instead."""
    return Problem(503, f"the server cannot answer now: it is {state}", 1, {"Retry-After": "1"})


def of_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Problem:
    """A problem that the web framework found: no such path, another method.

    Args:
        status: of HTTP.
        detail: its own words, where we have none.
        headers: more headers of the answer.
    """
    return Problem(status, _WORDS.get(status, detail), _code(status), dict(headers or {}))


def response(problem: Problem, request_id: str) -> Response:
    """The answer that tells of a problem."""
    return Response(
        body(problem, request_id),
        problem.status,
        headers=dict(problem.headers),
        media_type=MEDIA_TYPE,
    )


def body(problem: Problem, request_id: str) -> bytes:
    """The document as bytes, in one line."""
    return json.dumps(problem.to_dict(request_id)).encode()


def _code(status: int) -> int:
    if status == 404:
        return NotFoundError.exit_code
    return 1 if status >= 500 or status == 429 else InputError.exit_code
