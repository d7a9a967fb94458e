"""Errors in the words of OpenAI, whose client shows nothing else of a problem."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from expertbank.http.problems import Problem, RefusedError
from expertbank.serving.errors import TooManyTokensError

UNDER = "/v1/"
"""Addresses that OpenAI's clients call."""


def openai_error(problem: Problem) -> dict[str, Any]:
    """A problem in the words of OpenAI."""
    return {
        "message": problem.detail,
        "type": "server_error" if problem.status >= 500 else "invalid_request_error",
        "param": None,
        "code": problem.reason,
    }


@contextmanager
def too_long(param: str) -> Iterator[None]:
    """Refuse a prompt that is too long as OpenAI does: cut, it would be another one.

    Args:
        param: the field that holds it.
    """
    try:
        yield
    except TooManyTokensError as error:
        told = {
            "message": str(error),
            "type": "invalid_request_error",
            "param": param,
            "code": "context_length_exceeded",
        }
        raise RefusedError(400, str(error), error=told) from error
