"""What is known of a request when it has ended: one record, for logs, metrics and spans alike.

Routes say what they answered with ``tell``; the middleware adds route, status and time, and gives
the whole to every sink. Whoever wants to know more of requests adds a sink.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from expertbank.errors import ExpertBankError
from expertbank.http.problems import DEFECT, Problem, problem_of
from expertbank.records import Row
from expertbank.serving.answered import Answered
from expertbank.serving.errors import DeadlineError, NotReadyError

GONE = 499
"""Status of a request whose caller left before there was an answer, as proxies write it."""
CANCELLED = "cancelled"
"""Reason of a request whose caller left before the end of its answer."""
NO_ROUTE = "(none)"
"""Route of a request that no route takes: what was asked for is the caller's choice."""
_LOG = logging.getLogger("expertbank.http")
_KEY = "expertbank.told"
_OTHER = "OTHER"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Seen:
    """One request, ended.

    Attributes:
        id: the request's id, as the answer names it.
        method: of HTTP; ``OTHER`` for one that is not usual.
        route: the route's own path, such as ``/v2/models/{name}/infer``.
        status: of the answer; 499 where the caller had left, 500 where there was none.
        started_at: nanoseconds since 1970.
        seconds: from the first byte to the last of the answer.
        rows: rows answered.
        queued_seconds: until its first row was taken up; of a streamed one the longest.
        inference_seconds: of the passes that answered it.
        tasks: whose experts answered, each once, by name.
        unknown: rows like no task.
        router_version: the router that chose, where one did.
        router_digest: of its file.
        reason: why it failed, in one word; ``None`` where it did not.
        traceparent: the caller's trace, as W3C Trace Context writes it.
        texts: what was asked, where it may be kept: of every row its text, its second text if it
            has one, and its choices.
        parts: of every row how many of ``texts`` are its second text (0 or 1) and its choices.
    """

    id: str
    method: str
    route: str
    status: int
    started_at: int
    seconds: float
    rows: int = 0
    queued_seconds: float = 0.0
    inference_seconds: float = 0.0
    tasks: tuple[str, ...] = ()
    unknown: int = 0
    router_version: int | None = None
    router_digest: str | None = None
    reason: str | None = None
    traceparent: str | None = None
    texts: tuple[str, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()


Sink = Callable[[Seen], None]


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time.

    Attributes:
        at: nanoseconds since 1970.
        counter: seconds by ``time.perf_counter()``, from which durations are taken.
    """

    at: int = field(default_factory=time.time_ns)
    counter: float = field(default_factory=time.perf_counter)


@dataclass(slots=True)
class _Told:
    """What routes said of the request so far."""

    rows: int = 0
    queued: float = 0.0
    inference: float = 0.0
    tasks: set[str] = field(default_factory=set)
    unknown: int = 0
    router_version: int | None = None
    router_digest: str | None = None
    reason: str | None = None
    status: int | None = None
    asked: list[Row] = field(default_factory=list)


def tell(scope: Scope, answered: Answered, rows: Iterable[Row] = ()) -> None:
    """Say what a request was answered with; a streamed one says it for each part.

    Args:
        scope: the request's (``request.scope``).
        answered: what the server gave.
        rows: what was asked; kept only until the request ends.
    """
    told = _told(scope)
    told.rows += len(answered.predictions)
    told.queued = max(told.queued, answered.queued_seconds)
    told.inference += answered.inference_seconds
    for prediction in answered.predictions:
        told.tasks.update(one.task for one in (prediction, *prediction.answers))
        told.unknown += bool(prediction.unknown)
    told.router_version = answered.state.router_version
    told.router_digest = answered.state.router_digest
    told.asked.extend(rows)


def tell_failure(scope: Scope, reason: str) -> None:
    """Say why a request fails: the ``reason`` of the problem that its caller is told."""
    _told(scope).reason = reason


def failed(scope: Scope, error: Exception, state: str) -> Problem:
    """What a caller is told of an error that ends the request; the rest goes to the log.

    Args:
        scope: the request's.
        error: what happened.
        state: of the server.
    """
    problem = problem_of(error, state)
    tell_failure(scope, problem.reason)
    if problem.status >= 500 and not isinstance(error, DeadlineError):
        # What keeps a server from being ready was told when it happened, if it is no fault at all.
        level = logging.INFO if isinstance(error, NotReadyError) else logging.ERROR
        defect = None if isinstance(error, ExpertBankError) else error
        name, kind = scope["state"]["request_id"], type(error).__name__
        _LOG.log(level, "request %s failed: %s: %s", name, kind, error, exc_info=defect)
    return problem


def tell_refusal(scope: Scope, problem: Problem) -> None:
    """Say what a request was answered with from outside the application, which knows nothing."""
    told = _told(scope)
    told.reason, told.status = problem.reason, problem.status


def refused(problem: Problem, request_id: str, begun: Moment) -> Seen:
    """The record of what was refused before it was a request: neither method nor path is known."""
    return Seen(
        id=request_id,
        method=_OTHER,
        route=NO_ROUTE,
        status=problem.status,
        started_at=begun.at,
        seconds=time.perf_counter() - begun.counter,
        reason=problem.reason,
    )


def _told(scope: Scope) -> _Told:
    found: _Told = scope.setdefault(_KEY, _Told())
    return found


class SeenMiddleware:
    """Times every request and gives its record to sinks, whatever became of it.

    Args:
        app: the application inside.
        sinks: what takes records; they must be quick and must not fail.
        texts: let records hold what was asked.
        routes: those of the application, by which requests are named that do not come to one.
    """

    def __init__(
        self,
        app: ASGIApp,
        sinks: Sequence[Sink],
        texts: bool = False,
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self.app = app
        self.sinks = tuple(sinks)
        self.texts = texts
        self.routes = tuple(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI; what is not HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status, ended = Moment(), 0, False
        told = _told(scope)  # Made here: inner applications may copy the scope.

        async def watched(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                ended = not message.get("more_body", False)
            await send(message)

        failed = False
        try:
            await self.app(scope, receive, watched)
        except Exception:
            failed = True
            raise
        finally:
            asked = told.asked if self.texts else []
            seen = Seen(
                id=str(scope.get("state", {}).get("request_id", "")),
                method=scope["method"] if scope["method"] in _METHODS else _OTHER,
                route=_route(scope, self.routes),
                status=status or told.status or (500 if failed else GONE),
                started_at=begun.at,
                seconds=time.perf_counter() - begun.counter,
                rows=told.rows,
                queued_seconds=told.queued,
                inference_seconds=told.inference,
                tasks=tuple(sorted(told.tasks)),
                unknown=told.unknown,
                router_version=told.router_version,
                router_digest=told.router_digest,
                reason=told.reason or (None if ended else DEFECT if failed else CANCELLED),
                traceparent=_header(scope, b"traceparent"),
                texts=tuple(text for row in asked for text in _texts(row)),
                parts=tuple((bool(row.text_pair), len(row.choices)) for row in asked),
            )
            for sink in self.sinks:
                sink(seen)


def _texts(row: Row) -> list[str]:
    return [row.text, *([row.text_pair] if row.text_pair else []), *row.choices]


def _route(scope: Scope, routes: Iterable[BaseRoute]) -> str:
    """The path as the route was declared with: few values, and nothing of the caller's.

    Of a request that was refused before it came to its route, the one that it was for.
    """
    found = scope.get("route")
    if found is None:
        found = next((one for one in routes if one.matches(scope)[0] is not Match.NONE), None)
    return str(getattr(found, "path", NO_ROUTE))


def _header(scope: Scope, name: bytes) -> str | None:
    found = [value for key, value in scope.get("headers", ()) if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None
