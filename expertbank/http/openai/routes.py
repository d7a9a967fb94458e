"""``POST /v1/completions`` and ``/v1/chat/completions`` as OpenAI's clients call them.

Whole answers, or server-sent events as they are written. Model ``auto`` routes each prompt. An
expert with a head answers too: its label is the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from expertbank.data.inputs import row_of
from expertbank.http.asking import answer, deadline_of, submit
from expertbank.http.bodies import json_asked
from expertbank.http.documents import reply, texts
from expertbank.http.openai.answer import Shape, finish_of, origin_of, text_of, usage_of
from expertbank.http.openai.errors import UNDER, openai_error, too_long
from expertbank.http.openai.request import messages_of, wanted_of
from expertbank.http.openai.schemas import CHAT_BODY, COMPLETION_BODY, SCHEMAS, written
from expertbank.http.openai.stream import Writer, events
from expertbank.http.protocol import Protocol
from expertbank.http.sse import EVENTS
from expertbank.serving.asking import Ask
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server


def router(server: Server) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["as OpenAI has them"])

    @routes.post(
        "/v1/completions",
        summary="Write on from prompts",
        response_class=Response,
        responses=written("Completion"),
        openapi_extra=COMPLETION_BODY,
    )
    async def completions(request: Request) -> Response:
        asked = await json_asked(request, server.config.max_body_bytes)
        wanted = texts(asked.get("prompt"), "'prompt'")
        server.config.allow(len(wanted))
        shape = Shape("cmpl", "text_completion", "text_completion", chat=False)
        return await _answered(server, request, asked, wanted, shape)

    @routes.post(
        "/v1/chat/completions",
        summary="Answer a conversation, by the backbone's own chat template",
        response_class=Response,
        responses=written("ChatCompletion"),
        openapi_extra=CHAT_BODY,
    )
    async def chat(request: Request) -> Response:
        asked = await json_asked(request, server.config.max_body_bytes)
        state = server.current  # whose template it is must answer
        prompt = state.chat_prompt(messages_of(asked.get("messages")))
        shape = Shape("chatcmpl", "chat.completion", "chat.completion.chunk", chat=True)
        return await _answered(server, request, asked, [prompt], shape, state)

    return routes


async def _answered(
    server: Server,
    request: Request,
    asked: Mapping[str, Any],
    prompts: Sequence[str],
    shape: Shape,
    under: ServingState | None = None,
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
    with too_long("messages" if shape.chat else "prompt"):
        if wanted.stream:
            deadline = deadline_of(request, server.config.deadline_ms)
            writer = Writer(asyncio.get_running_loop())
            future = await submit(server, replace(ask, told=writer), deadline, under)
            writer.end_with(future)
            parts = events(server, request, ask, future, writer, deadline, wanted, shape)
            headers = {"Cache-Control": "no-cache"}
            return StreamingResponse(parts, media_type=EVENTS, headers=headers)
        found = await answer(server, request, ask, under=under)
    choices = [
        {**shape.choice(index, text_of(one), finish_of(one)), **origin_of(one, found)}
        for index, one in enumerate(found.predictions)
    ]
    document = shape.document(wanted.model, choices, part=False)
    return reply({**document, "usage": usage_of(found)})


PROTOCOL = Protocol(router, SCHEMAS, UNDER, openai_error)
