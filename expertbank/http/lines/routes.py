"""``POST /predict``: rows in as JSON lines, answers out as JSON lines, as they come.

The documents are those of ``expertbank predict --json``, with the digests of expert and router.
What ends the work behind the first answers is told in the last line, as a problem document.
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from expertbank.http.asking import DEADLINE_HEADER, deadline_of, until_left
from expertbank.http.bodies import read, require_type
from expertbank.http.lines.query import read_options
from expertbank.http.lines.rows import LINES, read_rows
from expertbank.http.lines.schemas import LINES_BODY, SCHEMAS, line_answers
from expertbank.http.lines.work import Work, kept
from expertbank.http.protocol import Protocol
from expertbank.serving.server import Server


def router(server: Server) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["JSON lines"])

    @routes.post(
        "/predict",
        summary="Answer rows, streamed",
        response_class=StreamingResponse,
        responses=line_answers(),
        openapi_extra=LINES_BODY,
    )
    async def predict(request: Request) -> StreamingResponse:
        kind = require_type(request, *LINES, "application/json")
        options = read_options(request.query_params.multi_items())
        parse = partial(read_rows, lines=kind in LINES)
        found = await read(request, server.config.max_body_bytes, parse)
        named = DEADLINE_HEADER in request.headers
        deadline = deadline_of(request, server.config.deadline_ms) if named else None
        work = Work(server, request, options, server.current, deadline)
        rows, skipped = kept(found, options)
        slices = work.cut(rows)
        # The first answers are waited for, so that what is wrong with all of them has a status.
        first = await until_left(request, work.lines(slices[0])) if slices else []
        lines = work.stream(first, slices[1:], skipped)
        return StreamingResponse(lines, media_type=LINES[0])

    return routes


PROTOCOL = Protocol(router, SCHEMAS)
