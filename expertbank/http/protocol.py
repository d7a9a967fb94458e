"""What a protocol is to the server: its routes, its schemas, its way to tell of an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter

from expertbank.http.problems import Problem
from expertbank.http.schemas import Schema
from expertbank.serving.server import Server


@dataclass(frozen=True, slots=True)
class Protocol:
    """One way to ask.

    Attributes:
        router: makes its routes.
        schemas: of its documents, by name.
        under: beginning of the addresses whose callers read errors in its own words.
        error: what stands in a problem's ``error`` there; ``None`` for the sentence alone.
    """

    router: Callable[[Server], APIRouter]
    schemas: Mapping[str, Schema]
    under: str = "/"
    error: Callable[[Problem], Mapping[str, Any]] | None = None


def spoken(problem: Problem, path: str, protocols: Iterable[Protocol]) -> Problem:
    """A problem as the callers of an address read it."""
    for one in protocols:
        if problem.error is None and one.error is not None and path.startswith(one.under):
            return replace(problem, error=one.error(problem))
    return problem
