"""``/v1/completions`` and ``/v1/chat/completions``: a router in front of an engine.

Content chooses the adapter, and the engine's answer comes back as it is. The prompt of an expert
that writes gets its response template. A request that names a model is passed on byte for byte.
What goes wrong is told at once, with the adapter that was meant; where the engine is, callers are
not told.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from expertbank.http import prompts
from expertbank.http.asking import answer, until_left
from expertbank.http.bodies import read, require_type
from expertbank.http.documents import encode, optional, read_object
from expertbank.http.ending import Ending
from expertbank.http.keys import KeyFile, offered_keys
from expertbank.http.limits import EngineConfig
from expertbank.http.problems import Problem, RefusedError
from expertbank.http.schemas import ASKING, problems
from expertbank.http.seen import tell_failure
from expertbank.http.sse import DONE, EVENTS, Events, event
from expertbank.serving.asking import AUTO
from expertbank.serving.engine import Chosen, Engine
from expertbank.serving.errors import NotReadyError
from expertbank.serving.server import Server
from expertbank.writing import Writing

MOST = 64 * 2**20
"""Bytes of an answer that is not streamed."""
_PASSED_ON = (b"accept", b"x-request-id", b"traceparent", b"tracestate")
_OF_ONE_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "te", "trailer", "upgrade"),
        *("transfer-encoding", "content-length", "date", "server", "x-request-id"),
    }
)
_LOG = logging.getLogger("expertbank.http")


def router(server: Server, engine: Engine, config: EngineConfig, keys: KeyFile | None) -> APIRouter:
    """The routes of a language model's callers.

    Args:
        server: whose router chooses.
        engine: what answers.
        config: how long it may take.
        keys: the bank's own, which are not passed on.
    """
    timeout = httpx.Timeout(config.engine_seconds, connect=config.engine_connect_seconds)
    client = httpx.AsyncClient(
        base_url=engine.url,
        timeout=timeout,
        # As many as callers: what waits here would wait in the engine's own queue. Idle ones are
        # let go before uvicorn, which most engines run on, closes them under a request (5 s).
        limits=httpx.Limits(max_connections=None, keepalive_expiry=2.0),
        trust_env=False,  # neither a proxy nor a password of this machine's user
    )

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    routes = APIRouter(tags=["a router in front of an engine"], lifespan=life)

    async def passed(
        request: Request,
        path: str,
        texts_of: Callable[[Mapping[str, Any]], list[str]],
        as_trained: Callable[[Mapping[str, Any], Writing], Mapping[str, Any]] | None = None,
    ) -> Response:
        require_type(request, "application/json")
        body, asked = await read(
            request, server.config.max_body_bytes, lambda body: (body, read_object(body))
        )
        chosen = None
        if (optional(asked.get("model"), str, "'model'") or AUTO) == AUTO:
            texts = texts_of(asked)
            server.config.allow(len(texts))
            chosen = engine.chosen(await answer(server, request, engine.asks(texts)))
            if as_trained and chosen.writing:
                asked = as_trained(asked, chosen.writing)
            body = encode({**asked, "model": chosen.model})
        meant = f"model {str(asked['model'])[:100]!r}" if chosen is None else _meant(chosen)
        headers = _headers(request, keys)
        sent = client.build_request("POST", path, content=body, headers=headers)
        return await until_left(request, _answer(request, client, sent, chosen, meant))

    answers = {
        "200": {"description": "The engine's answer.", "content": {"application/json": {}}},
        **problems(*ASKING, 502),
    }

    @routes.post(
        "/v1/completions", summary="Complete prompts", response_class=Response, responses=answers
    )
    async def completions(request: Request) -> Response:
        return await passed(request, "/v1/completions", prompts.of_completion, prompts.as_trained)

    @routes.post(
        "/v1/chat/completions",
        summary="Go on with a chat",
        response_class=Response,
        responses=answers,
    )
    async def chat(request: Request) -> Response:
        return await passed(request, "/v1/chat/completions", prompts.of_chat)

    return routes


async def _answer(
    request: Request,
    client: httpx.AsyncClient,
    sent: httpx.Request,
    chosen: Chosen | None,
    meant: str,
) -> Response:
    """The engine's answer, streamed if it streams.

    Raises:
        RefusedError: the engine is away, silent, or has no such adapter.
        NotReadyError: the server ended first.
    """
    ending: Ending = request.app.state.ending
    try:
        received = await ending.before(client.send(sent, stream=True))
    except httpx.TransportError as error:
        raise _refused(error, meant) from error
    received.headers.encoding = "latin-1"  # as they are written again
    headers = {
        name: value for name, value in received.headers.items() if name not in _OF_ONE_HOP
    } | _told(chosen)
    if received.headers.get("content-type", "").partition(";")[0].strip().lower() == EVENTS:
        return _Passing(received, _parts(request, received, meant), headers)
    try:
        content = await ending.before(_whole(received, meant))
    except httpx.TransportError as error:
        raise _refused(error, meant) from error
    finally:
        await received.aclose()
    if received.status_code == 404 and chosen is not None:
        raise RefusedError(
            404,
            f"the engine does not have {meant.removesuffix(',')}; load the adapter there under "
            f"that name, or say what it is called with --engine-model {chosen.task}=NAME",
            _told(chosen),
        )
    return Response(content, received.status_code, headers)


class _Passing(StreamingResponse):
    """Parts of the engine's answer; however it ends, also before it began, the engine is let go."""

    def __init__(
        self, received: httpx.Response, parts: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> None:
        super().__init__(parts, received.status_code, headers)
        self._received = received

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._received.aclose()


async def _whole(received: httpx.Response, meant: str) -> bytes:
    content = bytearray()
    async for part in received.aiter_raw():
        content += part
        if len(content) > MOST:
            raise RefusedError(502, f"the engine's answer, of {meant}, is larger than {MOST} bytes")
    return bytes(content)


async def _parts(request: Request, received: httpx.Response, meant: str) -> AsyncIterator[bytes]:
    """The engine's events as they come; one that is cut off is left out, and the reason told."""
    events, problem, status = Events(), None, 502
    ending: Ending = request.app.state.ending
    coming = received.aiter_raw()
    try:
        while True:
            whole = events.add(await ending.before(anext(coming)))
            if whole:
                yield whole
    except StopAsyncIteration:
        pass
    except NotReadyError as error:
        problem, status = str(error), 503
    except httpx.TransportError as error:
        problem = str(_refused(error, meant))
    if problem is None and not events.done:
        problem = f"the engine's answer, of {meant}, ended before it was done"
    if problem is None:
        yield events.rest
        return
    tell_failure(request.scope, Problem(status, problem, 1).reason)
    told = {"message": problem, "type": "engine_error", "param": None, "code": status}
    yield event({"error": told}) + DONE


def _refused(error: httpx.TransportError, meant: str) -> RefusedError:
    """What a caller is told of an engine that failed."""
    _LOG.warning("the engine failed: %s: %s", type(error).__name__, error)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return RefusedError(502, f"the engine cannot be reached; {meant} was to answer")
    if isinstance(error, httpx.TimeoutException):
        return RefusedError(504, f"the engine was silent for too long; {meant} was to answer")
    return RefusedError(502, f"the engine broke off; {meant} was to answer")


def _meant(chosen: Chosen) -> str:
    named = "" if chosen.model == chosen.task else f" of task {chosen.task!r}"
    return f"adapter {chosen.model!r}{named}, which the router chose,"


def _told(chosen: Chosen | None) -> dict[str, str]:
    """Headers that say what was chosen."""
    if chosen is None:
        return {}
    told = {
        "x-expertbank-task": chosen.task,
        "x-expertbank-model": chosen.model,
        "x-expertbank-confidence": f"{chosen.confidence:.6f}",
    }
    if chosen.unknown is not None:
        told["x-expertbank-unknown"] = str(chosen.unknown).lower()
    return told


def _headers(request: Request, keys: KeyFile | None) -> list[tuple[bytes, bytes]]:
    """What the engine gets to know of a request: never a key of the bank's."""
    found = [(name, value) for name, value in request.headers.raw if name in _PASSED_ON]
    found += [(b"content-type", b"application/json"), (b"accept-encoding", b"identity")]
    key = [(name, value) for name, value in request.headers.raw if name == b"authorization"]
    return found if keys and keys.allows(offered_keys(key)) else [*found, *key]
