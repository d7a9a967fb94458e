"""The whole application: routes, what stands around them, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from expertbank.http import admin, classify, metrics, models, page
from expertbank.http.arriving import Guarded, Headed, Identified, request_id
from expertbank.http.ending import Ending
from expertbank.http.keys import KeyFile
from expertbank.http.limits import HttpConfig
from expertbank.http.lines import routes as lines
from expertbank.http.oip import routes as oip
from expertbank.http.openai import routes as openai
from expertbank.http.problems import Problem, of_status, response
from expertbank.http.protocol import spoken
from expertbank.http.schemas import PROBLEM, problems
from expertbank.http.seen import SeenMiddleware, tell_failure
from expertbank.http.watch import Watch
from expertbank.serving.server import Server

PROTOCOLS = (
    *(oip.PROTOCOL, models.PROTOCOL, classify.PROTOCOL),
    *(openai.PROTOCOL, lines.PROTOCOL, admin.PROTOCOL),
)
_ABOUT = """\
A bank of frozen experts: ask one by name, or let the router choose by content. Rows of all callers
share passes. Every answer names the digests of the router and the expert that it came from.
"""


def make_app(
    server: Server,
    *,
    http: HttpConfig | None = None,
    keys: KeyFile | None = None,
    watch: Watch | None = None,
    engine: Callable[[Server], APIRouter] | None = None,
) -> FastAPI:
    """The application over a server that the caller starts; when it ends, it drains and stops it.

    Args:
        server: what answers.
        http: limits of connections.
        keys: one of them must come with each request but those for health; ``None`` for none.
        watch: what ended requests are told to.
        engine: makes the routes of an engine that the router stands in front of; ``None``: the
            bank's own experts answer in words.
    """
    http, watch = http or HttpConfig(), watch or Watch()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(server.drain)
        await asyncio.to_thread(server.stop)

    app = FastAPI(
        title="expertbank",
        summary="Answers from a bank of frozen experts.",
        description=_ABOUT,
        version=version("expertbank"),
        lifespan=life,
        docs_url=None,  # pages that load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.ending = Ending()
    app.state.sinks = watch.sinks  # for connections, which refuse some things by themselves
    routers = [
        # The same addresses, answered by an engine or by the bank's own experts.
        (engine if engine and one is openai.PROTOCOL else one.router)(server)
        for one in PROTOCOLS
    ]
    routers += [metrics.router(watch.metrics), page.router(server, watch)]
    own = list(app.routes)
    routes = [route for router in routers for route in router.routes]
    for router in routers:
        app.include_router(router)

    async def unrouted(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = error.headers
        if error.status_code == 405:
            headers = {"Allow": ", ".join(_allowed([*own, *routes], request.scope))}
        return _told(request, of_status(error.status_code, str(error.detail), headers))

    async def invalid(request: Request, error: Exception) -> Response:
        return _told(request, of_status(400, "a parameter is not what it should be"))

    app.add_exception_handler(HTTPException, unrouted)
    app.add_exception_handler(RequestValidationError, invalid)
    # The last one added is the outermost.
    app.add_middleware(Headed)
    app.add_middleware(
        Guarded,
        keys=keys,
        server=server,
        max_headers=http.max_header_bytes,
        read_seconds=http.read_seconds,
        protocols=PROTOCOLS,
        ending=app.state.ending,
    )
    app.add_middleware(SeenMiddleware, sinks=watch.sinks, texts=watch.texts, routes=routes)
    app.add_middleware(Identified)
    app.openapi = lambda: _openapi(app, keys is not None)  # type: ignore[method-assign]  # FastAPI's way
    return app


def _allowed(routes: Sequence[BaseRoute], scope: Scope) -> list[str]:
    """The methods that an address takes; the framework names those of its first route alone."""
    found: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found | {"HEAD"} if "GET" in found else found)


def _told(request: Request, problem: Problem) -> Response:
    tell_failure(request.scope, problem.reason)
    return response(spoken(problem, request.scope["path"], PROTOCOLS), request_id(request.scope))


def _openapi(app: FastAPI, keyed: bool) -> dict[str, Any]:
    """The OpenAPI document; made once."""
    if app.openapi_schema is not None:
        return app.openapi_schema
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
    )
    parts = document.setdefault("components", {})
    parts["schemas"] = {"Problem": PROBLEM}
    for protocol in PROTOCOLS:
        parts["schemas"] |= protocol.schemas
    if keyed:
        parts["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "basic": {"type": "http", "scheme": "basic"},
        }
        document["security"] = [{"bearer": []}, {"header": []}, {"basic": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            operation["responses"].update(problems(431))
            # FastAPI adds this one by itself where an address has parts.
            told = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in told:
                del operation["responses"]["422"]
            if keyed and not path.startswith("/v2/health/"):
                operation["responses"].update(problems(401))
            elif keyed:
                operation["security"] = []
    app.openapi_schema = document
    return document
