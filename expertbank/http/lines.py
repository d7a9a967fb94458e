"""``POST /predict``: rows in as JSON lines, answers out as JSON lines, as they come.

The documents are those of ``expertbank predict --json``, with the digests of expert and router.
What ends the work behind the first answers is told in the last line, as a problem document.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from codecs import BOM_UTF8
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from expertbank.data.formats.json_rows import parse_object, read_array, read_lines
from expertbank.data.formats.lines import Line
from expertbank.data.formats.table import Found
from expertbank.data.inputs import row_of
from expertbank.errors import DataError, ExpertBankError, InputError
from expertbank.http import schemas
from expertbank.http.asking import (
    DEADLINE_HEADER,
    awaited,
    deadline_of,
    require_type,
    until_left,
)
from expertbank.http.compressed import body_of
from expertbank.http.documents import encode
from expertbank.http.problems import malformed, problem_of
from expertbank.http.seen import tell, tell_failure
from expertbank.http.told import document_of
from expertbank.records import Row
from expertbank.serving.asking import AUTO, Ask
from expertbank.serving.errors import QueueFullError, TooLargeError
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server
from expertbank.workflows.answering.prediction import Prediction

LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
_FLAGS = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_PARAMETERS = ("task", "abstain", "fallback", "skip_bad")
_LOG = logging.getLogger("expertbank.http")


@dataclass(frozen=True, slots=True)
class Options:
    """What the query says of all rows.

    Attributes:
        task: task that answers; ``None`` to route.
        abstain: answer ``unknown`` to rows like no task.
        fallback: task that answers such rows instead.
        skip_bad: leave rows out that cannot be answered, and say so in their place.
    """

    task: str | None = None
    abstain: bool = False
    fallback: str | None = None
    skip_bad: bool = False

    def ask(self, rows: Iterable[Row]) -> Ask:
        """The same wish for some of the rows."""
        return Ask(tuple(rows), self.task or AUTO, None, self.abstain, self.fallback)


Numbered = tuple[int, Row]
"""A row and its place in the body, from 0."""
Placed = tuple[int, bytes]
"""A line of the answer and the place of its row."""


def router(server: Server) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["JSON lines"])

    @routes.post(
        "/predict",
        summary="Answer rows, streamed",
        response_class=StreamingResponse,
        responses=schemas.line_answers(),
        openapi_extra=schemas.LINES_BODY,
    )
    async def predict(request: Request) -> StreamingResponse:
        require_type(request, *LINES, "application/json")
        options = read_options(request.query_params.multi_items())
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await body_of(request, server.config.max_body_bytes)
        # Much takes a while to read, and others are answered meanwhile.
        found = await asyncio.to_thread(read_rows, body, lines=kind in LINES)
        named = DEADLINE_HEADER in request.headers
        deadline = deadline_of(request, server.config.deadline_ms) if named else None
        work = _Work(server, request, options, server.current, deadline)
        rows, skipped = _kept(found, options)
        slices = work.cut(rows)
        # The first answers are waited for, so that what is wrong with all of them has a status.
        first = await until_left(request, work.lines(slices[0])) if slices else []
        lines = work.stream(first, slices[1:], skipped)
        return StreamingResponse(lines, media_type=LINES[0])

    return routes


def read_options(items: Sequence[tuple[str, str]]) -> Options:
    """The options in a query.

    Raises:
        RefusedError: an unknown or repeated parameter, or a flag that is neither true nor false.
    """
    given: dict[str, str] = {}
    for name, value in items:
        if name not in _PARAMETERS:
            raise malformed(f"no such parameter {name[:40]!r}; there are {', '.join(_PARAMETERS)}")
        if name in given:
            raise malformed(f"parameter {name!r} stands there twice")
        given[name] = value
    found = Options(
        given.get("task") or None,
        _flag(given, "abstain"),
        given.get("fallback") or None,
        _flag(given, "skip_bad"),
    )
    if (found.task is not None) + found.abstain + (found.fallback is not None) > 1:
        raise malformed("name a task, or abstain, or give a fallback: only one of them")
    return found


def read_rows(body: bytes, *, lines: bool) -> list[Row | InputError]:
    """The rows in a body, or what is wrong with one in its place.

    Args:
        body: JSON lines, an array of objects, or one object.
        lines: whether each line is a document of its own.

    Raises:
        RefusedError: nothing is there.
    """
    body = body.removeprefix(BOM_UTF8)
    if not body.strip():
        raise malformed('the body is empty; send rows such as {"text": "..."}')
    if not lines and body.lstrip()[:1] != b"[":
        try:
            return [_row(parse_object(_decoded(body, "the row"), "the row"), "the row")]
        except DataError as error:
            return [_several(error)]
    return [
        one if isinstance(one, DataError) else _row(one.values, one.origin) for one in _found(body)
    ]


def _several(error: DataError) -> DataError:
    """What is wrong with a body that is no JSON; lines of JSON need a media type of their own."""
    cause = error.__cause__
    if isinstance(cause, json.JSONDecodeError) and cause.msg == "Extra data":
        hint = f"send several rows as one array, or as lines with Content-Type: {LINES[0]}"
        return DataError(f"{error}; {hint}", "JSON")
    return error


def _found(body: bytes) -> Iterator[Found]:
    if body.lstrip()[:1] != b"[":
        yield from read_lines(_lines(body), "body")
        return
    try:
        yield from read_array(_decoded(body, "body"), "body")
    except DataError as error:
        yield error


def _lines(body: bytes) -> Iterator[Line]:
    for number, line in enumerate(body.split(b"\n"), start=1):
        try:
            yield number, _decoded(line, f"body:{number}") + "\n"
        except DataError as error:
            yield number, error


def _decoded(data: bytes, origin: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{origin}: not UTF-8", "JSON") from None


def _row(values: Mapping[str, Any], origin: str) -> Row | InputError:
    try:
        return row_of(values, origin)
    except DataError as error:
        return error


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name)
    if value is None:
        return False
    found = _FLAGS.get(value.lower())
    if found is None:
        raise malformed(f"parameter {name!r} must be true or false")
    return found


def _kept(
    found: Sequence[Row | InputError], options: Options
) -> tuple[list[Numbered], dict[int, str]]:
    """The rows that can be asked, and what is wrong with the others.

    Raises:
        RefusedError: one of them is no JSON, and bad rows are not to be skipped.
        InputError: one of them is no row, likewise.
    """
    rows: list[Numbered] = []
    skipped: dict[int, str] = {}
    for index, one in enumerate(found):
        if isinstance(one, Row):
            rows.append((index, one))
        elif options.skip_bad:
            skipped[index] = str(one)
        elif isinstance(one, DataError) and one.fault == "JSON":
            raise malformed(str(one))
        else:
            raise one
    return rows, skipped


@dataclass(slots=True)
class _Work:
    """One request while it is answered, slice after slice, all of them by one state.

    A deadline that the caller named is the whole request's, the server's own each slice's: files of
    any size are answered.
    """

    server: Server
    request: Request
    options: Options
    state: ServingState
    deadline: float | None = None

    def cut(self, rows: Sequence[Numbered]) -> list[Sequence[Numbered]]:
        """The rows in slices that are asked one after the other."""
        size = self.server.config.max_rows
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    async def stream(
        self,
        first: Sequence[Placed],
        rest: Sequence[Sequence[Numbered]],
        skipped: Mapping[int, str],
    ) -> AsyncIterator[bytes]:
        """Lines in the rows' order, each slice's while the next is answered."""
        left = deque((index, _skipped(index, why)) for index, why in sorted(skipped.items()))
        coming: asyncio.Future[list[Placed]] | None = None
        answered = first
        try:
            for following in rest:
                coming = asyncio.ensure_future(self.lines(following, patient=True))
                for line in _with_skipped(answered, left):
                    yield line
                answered = await coming
            for line in _with_skipped(answered, left):
                yield line
            for _, line in left:
                yield line
        except Exception as error:  # noqa: BLE001 (the status was sent long ago)
            problem = problem_of(error, self.server.state)
            if problem.status >= 500:
                _LOG.error("a stream ended early: %s: %s", type(error).__name__, error)
            tell_failure(self.request.scope, problem.reason)
            yield encode(problem.to_dict(self.request.state.request_id)) + b"\n"
        finally:
            if coming is not None:
                coming.cancel()

    async def lines(self, rows: Sequence[Numbered], patient: bool = False) -> list[Placed]:
        """The lines of one slice.

        Args:
            rows: of the slice.
            patient: wait for room in a full queue, up to the deadline.

        Raises:
            ExpertBankError: as ``awaited``.
        """
        ask = self.options.ask(row for _, row in rows)
        deadline = self.deadline or deadline_of(self.request, self.server.config.deadline_ms)
        while True:
            try:
                answered = await awaited(self.server, ask, deadline, self.state)
                break
            except QueueFullError as error:
                pause = min(max(error.retry_after, 0.01), 1.0)
                if not patient or time.monotonic() + pause > deadline:
                    raise
                await asyncio.sleep(pause)
            except TooLargeError:
                raise
            except InputError as error:
                if not self.options.skip_bad:
                    raise
                return await self._without_bad(rows, error, patient)
        tell(self.request.scope, answered, ask.rows)
        return [
            (index, _line(prediction, index, answered.state))
            for prediction, (index, _) in zip(answered.predictions, rows, strict=True)
        ]

    async def _without_bad(
        self, rows: Sequence[Numbered], error: ExpertBankError, patient: bool
    ) -> list[Placed]:
        """The lines of a slice that holds a row which cannot be answered: by halves."""
        if len(rows) == 1:
            return [(rows[0][0], _skipped(rows[0][0], str(error)))]
        middle = len(rows) // 2
        return [
            *await self.lines(rows[:middle], patient),
            *await self.lines(rows[middle:], patient),
        ]


def _line(prediction: Prediction, index: int, state: ServingState) -> bytes:
    placed = replace(
        prediction,
        index=index,
        answers=tuple(replace(one, index=index) for one in prediction.answers),
    )
    return encode(document_of(placed, state)) + b"\n"


def _with_skipped(answered: Iterable[Placed], left: deque[Placed]) -> Iterator[bytes]:
    """Lines of answers, and of the skipped rows before them, which are taken from ``left``."""
    for index, line in answered:
        while left and left[0][0] < index:
            yield left.popleft()[1]
        yield line


def _skipped(index: int, why: str) -> bytes:
    return encode({"index": index, "skipped": why}) + b"\n"
