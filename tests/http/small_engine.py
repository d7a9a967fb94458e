"""An engine that speaks the completions protocol of OpenAI, over real HTTP: what it is asked it
tells, and it fails as it is told to. It has adapters as a server of models has them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse


class SmallEngine:
    """The application and what it saw.

    Attributes:
        seen: the body of each request, as it came.
        headers: the headers of each.
        left: set when a caller left in the middle of a stream.
    """

    def __init__(self, *models: str) -> None:
        self.models = models
        self.seen: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.left = threading.Event()
        self.app = FastAPI()
        self.app.post("/v1/completions")(self._completions)
        self.app.post("/v1/chat/completions")(self._completions)

    async def _completions(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        asked = json.loads(body)
        model, words = asked["model"], str(asked.get("user") or "")
        if model not in self.models:
            error = {"message": f"The model `{model}` does not exist.", "type": "NotFoundError"}
            return JSONResponse({"error": {**error, "code": 404}}, 404)
        if words == "silent":
            await asyncio.sleep(2.5)
        if words == "asleep":
            await asyncio.sleep(2)
        if words == "overloaded":
            return JSONResponse({"error": {"message": "busy", "code": 429}}, 429)
        if asked.get("stream"):
            return StreamingResponse(self._events(asked, words), media_type="text/event-stream")
        return JSONResponse(_whole(asked, "text_completion", model))

    async def _events(self, asked: dict[str, Any], words: str) -> AsyncIterator[bytes]:
        try:
            for place in range(1000 if words == "endless" else 4):
                event = b"data: " + json.dumps(_part(asked, place)).encode() + b"\n\n"
                if words == "break" and place == 2:
                    yield event[:20]
                    raise ConnectionError
                if words == "pause" and place == 2:
                    await asyncio.sleep(2.5)
                if words == "end" and place == 2:
                    return
                yield event
                if words == "endless":
                    await asyncio.sleep(0.01)
            yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.left.set()
            raise


def _whole(asked: dict[str, Any], kind: str, model: str) -> dict[str, Any]:
    text = f"{model} answers"
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if "messages" in asked:
        choice["message"] = {"role": "assistant", "content": text}
        kind = "chat.completion"
    else:
        choice["text"] = text
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return {
        "id": "x",
        "object": kind,
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": usage,
    }


def _part(asked: dict[str, Any], place: int) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": None, "logprobs": None}
    if "messages" in asked:
        choice["delta"] = {"content": f"{place} "}
        kind = "chat.completion.chunk"
    else:
        choice["text"] = f"{place} "
        kind = "text_completion"
    return {"id": "x", "object": kind, "created": 1, "model": asked["model"], "choices": [choice]}
