"""``POST /v1/completions`` and ``/v1/chat/completions`` as OpenAI's clients call them.

Whole answers, or server-sent events as they are written. Model ``auto`` routes each prompt. An
expert with a head answers too: its label is the text.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from expertbank.data.inputs import row_of
from expertbank.errors import InputError
from expertbank.http import text_schemas
from expertbank.http.asking import answer, deadline_of, require_type, stops_of, submit, texts
from expertbank.http.compressed import body_of
from expertbank.http.documents import among, encode, json_object, optional, read_json
from expertbank.http.infer import too_many
from expertbank.http.problems import RefusedError, malformed, openai_error, problem_of
from expertbank.http.seen import tell, tell_failure
from expertbank.http.told import document_of
from expertbank.serving.asking import AUTO, Answered, Ask
from expertbank.serving.errors import DeadlineError, TooManyTokensError
from expertbank.serving.server import Server
from expertbank.workflows.answering.prediction import Prediction
from expertbank.writing import LONGEST, Sampling

EVENTS = "text/event-stream"
_READ = frozenset(
    {"model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature"}
    | {"top_p", "seed", "stop", "stream", "stream_options", "user"}
)
_IDLE: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "metadata": ({},),
    "response_format": ({"type": "text"},),
}
"""Fields that change nothing with these values; with others they are not supported."""
_IDLE_IN_CHAT: Mapping[str, tuple[Any, ...]] = {
    # Of plain prompts it is how many besides the token's own, and 0 asks for that one.
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "modalities": (["text"],),
}
"""More of them in conversations."""
_TOLD = (
    *("task", "expert", "expert_digest", "router_digest", "confidence", "unknown"),
    "answers",  # of a group
)
_STOPS = 4
"""Most stop texts of one request, as at OpenAI."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request.

    Attributes:
        model: ``auto``, a task or a group.
        sampling: how to write.
        seeded: whether the caller gave the seed.
        stream: whether as events.
        usage: whether the last event counts tokens.
    """

    model: str
    sampling: Sampling
    seeded: bool
    stream: bool
    usage: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """In which of the two ways it is answered: names of documents, and where a text stands."""

    prefix: str
    whole: str
    part: str
    chat: bool
    made: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: int = field(default_factory=lambda: int(time.time()))

    def document(self, model: str, choices: Sequence[Mapping[str, Any]], *, part: bool) -> Any:
        """A whole answer, or one event."""
        return {
            "id": f"{self.prefix}-{self.made}",
            "object": self.part if part else self.whole,
            "created": self.at,
            "model": model,
            "choices": list(choices),
        }

    def origin(self, index: int) -> str:
        """What a caller knows a prompt as."""
        return "the conversation" if self.chat else f"prompt {index}"

    def choice(self, index: int, text: str, finish: str | None) -> dict[str, Any]:
        """One prompt's answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        own = {"message": message} if self.chat else {"text": text}
        return {"index": index, **own, "logprobs": None, "finish_reason": finish}

    def delta(self, index: int, text: str, finish: str | None, *, first: bool) -> dict[str, Any]:
        """A part of it. Clients add parts up, so who speaks is said in the first alone."""
        role = {"role": "assistant"} if first else {}
        own = {"delta": {**role, "content": text}} if self.chat else {"text": text}
        return {"index": index, **own, "logprobs": None, "finish_reason": finish}


def router(server: Server) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["as OpenAI has them"])

    @routes.post(
        "/v1/completions",
        summary="Write on from prompts",
        response_class=Response,
        responses=text_schemas.answers("Completion"),
        openapi_extra=text_schemas.COMPLETION_BODY,
    )
    async def completions(request: Request) -> Response:
        asked = await _document(server, request)
        wanted = texts(asked.get("prompt"), "'prompt'")
        too_many(len(wanted), server.config.max_rows)
        shape = Shape("cmpl", "text_completion", "text_completion", chat=False)
        return await _answered(server, request, asked, wanted, shape)

    @routes.post(
        "/v1/chat/completions",
        summary="Answer a conversation, by the backbone's own chat template",
        response_class=Response,
        responses=text_schemas.answers("ChatCompletion"),
        openapi_extra=text_schemas.CHAT_BODY,
    )
    async def chat(request: Request) -> Response:
        asked = await _document(server, request)
        prompt = server.current.chat_prompt(messages_of(asked.get("messages")))
        shape = Shape("chatcmpl", "chat.completion", "chat.completion.chunk", chat=True)
        return await _answered(server, request, asked, [prompt], shape)

    return routes


async def _document(server: Server, request: Request) -> Mapping[str, Any]:
    require_type(request, "application/json")
    body = await body_of(request, server.config.max_body_bytes)
    return json_object(read_json(body), "the request")


async def _answered(
    server: Server,
    request: Request,
    asked: Mapping[str, Any],
    prompts: Sequence[str],
    shape: Shape,
) -> Response:
    wanted = wanted_of(asked, chat=shape.chat)
    rows = tuple(
        replace(row_of({"text": text}, shape.origin(n)), templated=shape.chat)
        for n, text in enumerate(prompts)
    )
    ask = Ask(
        rows,
        wanted.model,
        whole=True,
        sampling=wanted.sampling,
        drawn_apart=not wanted.seeded,
    )
    deadline = deadline_of(request, server.config.deadline_ms)
    if wanted.stream:
        told = _Told(asyncio.get_running_loop())
        with _too_long(shape):
            future = await submit(server, replace(ask, told=told), deadline)
        told.end_with(future)
        events = _events(server, request, ask, future, told, deadline, wanted, shape)
        return StreamingResponse(events, media_type=EVENTS, headers={"Cache-Control": "no-cache"})
    with _too_long(shape):
        found = await answer(server, request, ask, deadline)
    choices = [
        {**shape.choice(index, text_of(one), finish_of(one)), **_origin(one, found)}
        for index, one in enumerate(found.predictions)
    ]
    document = shape.document(wanted.model, choices, part=False)
    return Response(encode({**document, "usage": usage_of(found)}), media_type="application/json")


@contextmanager
def _too_long(shape: Shape) -> Iterator[None]:
    """Refuse a prompt that is too long as OpenAI does: cut, it would be another one."""
    try:
        yield
    except TooManyTokensError as error:
        told = {
            "message": str(error),
            "type": "invalid_request_error",
            "param": "messages" if shape.chat else "prompt",
            "code": "context_length_exceeded",
        }
        raise RefusedError(400, str(error), error=told) from error


async def _events(
    server: Server,
    request: Request,
    ask: Ask,
    future: Future[Answered],
    told: _Told,
    deadline: float,
    wanted: Wanted,
    shape: Shape,
) -> AsyncIterator[bytes]:
    """Answers as they are written; what ends them early is told in the last event."""
    sent = [""] * len(ask.rows)
    try:
        async for index, text in told.heard(deadline):
            if not text.startswith(sent[index]) or text == sent[index]:
                continue  # a pass that failed is begun anew
            delta = shape.delta(index, text[len(sent[index]) :], None, first=not sent[index])
            sent[index] = text
            yield _event(shape.document(wanted.model, [delta], part=True))
        found = future.result()
        tell(request.scope, found, ask.rows)
        for index, one in enumerate(found.predictions):
            rest = text_of(one)[len(sent[index]) :]
            last = shape.delta(index, rest, finish_of(one), first=not sent[index])
            choices = [{**last, **_origin(one, found)}]
            yield _event(shape.document(wanted.model, choices, part=True))
        if wanted.usage:
            document = shape.document(wanted.model, [], part=True)
            yield _event({**document, "usage": usage_of(found)})
        yield b"data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001 (the status was sent long ago)
        problem = problem_of(error, server.state)
        tell_failure(request.scope, problem.reason)
        yield _event({"error": openai_error(problem)})
    finally:
        told.left()
        future.cancel()


class _Told:
    """What the worker's thread writes, for the loop that sends it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[tuple[int, str] | None] = asyncio.Queue()
        self._gone = threading.Event()

    def __call__(self, index: int, text: str) -> bool:
        """Called by the worker; false once nobody listens."""
        if self._gone.is_set():
            return False
        self._put((index, text))
        return True

    def end_with(self, future: Future[Answered]) -> None:
        """Nothing follows once ``future`` is done."""
        future.add_done_callback(lambda _: self._put(None))

    def left(self) -> None:
        """Nobody listens any more."""
        self._gone.set()

    async def heard(self, deadline: float) -> AsyncIterator[tuple[int, str]]:
        """Rows and their answers so far, until the last.

        Raises:
            DeadlineError: it took too long.
        """
        while True:
            left = max(0.0, deadline - time.monotonic())
            try:
                following = await asyncio.wait_for(self._queue.get(), left)
            except asyncio.TimeoutError:
                raise DeadlineError("the deadline has passed") from None
            if following is None:
                return
            yield following

    def _put(self, item: tuple[int, str] | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


def wanted_of(asked: Mapping[str, Any], *, chat: bool) -> Wanted:
    """What a request wants.

    Raises:
        RefusedError: a field that is not supported, is not what it should be, or is out of bounds.
    """
    idle = {**_IDLE, **_IDLE_IN_CHAT} if chat else _IDLE
    for name, value in asked.items():
        if name not in _READ and value is not None and not among(value, idle.get(name, ())):
            raise malformed(f"{name!r} is not supported here; leave it out")
    newer = optional(asked.get("max_completion_tokens"), int, "'max_completion_tokens'")
    older = optional(asked.get("max_tokens"), int, "'max_tokens'")
    if newer is not None and not 1 <= newer <= LONGEST:
        raise malformed(f"max_completion_tokens must be 1 to {LONGEST}, got {newer}")
    stops = stops_of(asked)
    if len(stops) > _STOPS:
        raise malformed(f"'stop' may hold {_STOPS} texts, and holds {len(stops)}")
    options = optional(asked.get("stream_options"), dict, "'stream_options'") or {}
    temperature, top_p = _number(asked, "temperature", 0.0), _number(asked, "top_p", 1.0)
    given = optional(asked.get("seed"), int, "'seed'")
    seed = secrets.randbits(63) if given is None else given  # who draws twice wants two answers
    try:
        most = older if newer is None else newer
        sampling = Sampling(temperature, top_p, seed, most, tuple(stops))
    except InputError as error:
        raise malformed(str(error)) from error
    return Wanted(
        optional(asked.get("model"), str, "'model'") or AUTO,
        sampling,
        given is not None,
        optional(asked.get("stream"), bool, "'stream'") or False,
        optional(options.get("include_usage"), bool, "'include_usage'") or False,
    )


def messages_of(value: object) -> list[dict[str, str]]:
    """The messages of a conversation.

    Raises:
        RefusedError: something else; parts that are not text.
    """
    if not isinstance(value, list) or not value:
        raise malformed("'messages' must be an array of messages, at least one")
    found = []
    for number, one in enumerate(value):
        message = json_object(one, f"messages[{number}]")
        role = optional(message.get("role"), str, f"messages[{number}]: 'role'")
        content = message.get("content")
        if isinstance(content, list):
            content = "".join(_part(part, f"messages[{number}]: 'content'") for part in content)
        if not role or not isinstance(content, str):
            raise malformed(f"messages[{number}] must have a 'role' and a 'content' of text")
        found.append({"role": role, "content": content})
    return found


def _part(value: object, what: str) -> str:
    """The text of one part of a message."""
    part = json_object(value, what)
    text = part.get("text")
    if part.get("type") != "text" or not isinstance(text, str):
        raise malformed(f"{what}: only parts of text are read: type 'text' with a 'text'")
    return text


def text_of(one: Prediction) -> str:
    """The answer as text; of an expert with a head its label.

    Raises:
        InputError: an adapter elsewhere is to answer.
    """
    if one.external_adapter is not None:
        raise InputError(
            f"prompt {one.index} is for the adapter {one.external_adapter!r} of an engine, which "
            "answers behind this server only where it was started with --engine URL; ask the "
            "engine, or name another model"
        )
    return one.text if one.written is None else one.written


def finish_of(one: Prediction) -> str:
    """Why the text ends: a label is whole."""
    return one.finish or "stop"


def usage_of(found: Answered) -> dict[str, int]:
    """Tokens read and written."""
    written = sum(one.written_tokens for one in found.predictions)
    return {
        "prompt_tokens": found.tokens,
        "completion_tokens": written,
        "total_tokens": found.tokens + written,
    }


def _origin(one: Prediction, found: Answered) -> dict[str, Any]:
    """Which expert and which router it came from; of a group, whose first is the text, all."""
    document = document_of(one, found.state)
    return {name: document[name] for name in _TOLD if name in document}


def _number(asked: Mapping[str, Any], name: str, default: float) -> float:
    value = asked.get(name)
    if value is None:
        return default
    if type(value) not in {int, float} or not abs(value) <= sys.float_info.max:
        raise malformed(f"{name!r} must be a number")
    return float(value)


def _event(document: Any) -> bytes:
    return b"data: " + encode(document) + b"\n\n"
