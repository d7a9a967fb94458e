"""``POST /classify`` as vLLM has it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from expertbank.data.inputs import row_of
from expertbank.http.asking import answer
from expertbank.http.bodies import json_asked
from expertbank.http.documents import among, optional, reply, texts
from expertbank.http.problems import malformed
from expertbank.http.protocol import Protocol
from expertbank.http.schemas import (
    ASKING,
    SHARE,
    TEXT,
    TOLD_FIELDS,
    WHOLE,
    Schema,
    answers,
    array,
    asking,
    json_body,
    record,
)
from expertbank.http.told import label_text, parts_of
from expertbank.serving.answered import Answered
from expertbank.serving.asking import AUTO, Ask
from expertbank.serving.server import Server

_TOLD = (
    *("task", "expert", "expert_digest", "router_digest", "confidence"),
    *("unknown", "unknown_score", "unknown_p_value", "abstained"),
)
"""What of an answer's document stands beside vLLM's own fields."""
_SOMETIMES = ("answers", "external_adapter")
"""The same of a group, and of a task that is answered elsewhere."""
_PROBABILITIES = "scores are probabilities, always"
_NOT_HERE = {
    "abstain": "/predict and infer take it",
    "fallback": "/predict and infer take it",
    "truncate_prompt_tokens": "texts are cut at the bank's own length",
    "softmax": _PROBABILITIES,
    "activation": _PROBABILITIES,
    "use_activation": _PROBABILITIES,
}
"""What a caller may ask for elsewhere, and why not here: it would change the answer."""
_AS_IT_IS: Mapping[str, tuple[Any, ...]] = {
    "abstain": (False,),
    "softmax": (True,),
    "activation": (True,),
    "use_activation": (True,),
}
"""With which values they change nothing."""


def router(server: Server) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["as vLLM has them"])

    @routes.post(
        "/classify",
        summary="Answer texts",
        response_class=Response,
        responses=answers("Classified", *ASKING),
        openapi_extra=asking(json_body("ClassifyRequest")),
    )
    async def classify(request: Request) -> Response:
        asked = await json_asked(request, server.config.max_body_bytes)
        model = optional(asked.get("model"), str, "'model'") or AUTO
        if "messages" in asked:
            raise malformed("'messages' is not supported; send 'input'")
        for name, why in _NOT_HERE.items():
            if not among(asked.get(name), (None, *_AS_IT_IS.get(name, ()))):
                raise malformed(f"{name!r} is not supported here; {why}")
        wanted = texts(asked.get("input"), "'input'")
        server.config.allow(len(wanted))
        rows = tuple(row_of({"text": text}, f"input {n}") for n, text in enumerate(wanted))
        answered = await answer(server, request, Ask(rows, model))
        return reply(classified(answered, model))

    return routes


def classified(answered: Answered, model: str) -> dict[str, Any]:
    """The answer of ``/classify``; an answer that is a value has no probabilities.

    Args:
        answered: the texts' answers.
        model: the name that was asked.
    """
    return {
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": _data(answered),
        "usage": {
            "prompt_tokens": answered.tokens,
            "total_tokens": answered.tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


def _data(answered: Answered) -> Sequence[dict[str, Any]]:
    return [
        {
            "index": index,
            "label": label_text(one),
            "probs": list(one.scores.values()),
            "num_classes": len(one.scores),
            "labels": list(one.scores),
            **parts_of(one, answered.state, (*_TOLD, *_SOMETIMES)),
        }
        for index, one in enumerate(answered.predictions)
    ]


_CLASSIFIED: dict[str, Schema] = {
    "index": WHOLE,
    "label": TEXT,
    "probs": array(SHARE),
    "num_classes": WHOLE,
    "labels": array(TEXT),
    **{name: TOLD_FIELDS[name] for name in _TOLD},
}
PROTOCOL = Protocol(
    router,
    {
        "ClassifyRequest": record(
            {
                "model": {**TEXT, "default": "auto"},
                "input": {"anyOf": [TEXT, array(TEXT)]},
            },
            "input",
        ),
        "Classified": record(
            {
                "id": TEXT,
                "object": {"const": "list"},
                "created": WHOLE,
                "model": TEXT,
                "data": array(
                    record(
                        {**_CLASSIFIED, **{name: TOLD_FIELDS[name] for name in _SOMETIMES}},
                        *_CLASSIFIED,
                    )
                ),
                "usage": record(
                    {
                        "prompt_tokens": WHOLE,
                        "total_tokens": WHOLE,
                        "completion_tokens": WHOLE,
                        "prompt_tokens_details": {"type": "null"},
                    }
                ),
            }
        ),
    },
)
