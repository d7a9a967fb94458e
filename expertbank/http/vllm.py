"""``GET /v1/models``, one of them, and ``POST /classify``, as vLLM and OpenAI have them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response

from expertbank.data.inputs import row_of
from expertbank.http import schemas
from expertbank.http.asking import answer, deadline_of, require_type, texts
from expertbank.http.compressed import body_of
from expertbank.http.documents import among, encode, json_object, optional, read_json
from expertbank.http.infer import too_many
from expertbank.http.problems import malformed
from expertbank.http.tensors import label_text
from expertbank.http.told import document_of
from expertbank.serving.asking import AUTO, Answered, Ask
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server

_TOLD = (
    "task",
    "expert",
    "expert_digest",
    "router_digest",
    "confidence",
    "unknown",
    "unknown_score",
    "unknown_p_value",
    "abstained",
)
"""What of an answer's document stands beside vLLM's own fields."""
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
_SOMETIMES = ("answers", "external_adapter")
"""The same of a group, and of a task that is answered elsewhere."""


def router(server: Server) -> APIRouter:
    """The routes that vLLM's callers know."""
    routes = APIRouter(tags=["as vLLM has them"])

    @routes.get(
        "/v1/models",
        summary="Every name that can be asked",
        response_class=Response,
        responses=schemas.answers("Models", 503),
    )
    async def models() -> Response:
        return _json({"object": "list", "data": models_of(server.current)})

    @routes.get(
        "/v1/models/{name}",
        summary="One of them",
        response_class=Response,
        responses=schemas.answers("Model", 404, 503),
    )
    async def one_model(name: str) -> Response:
        state = server.current
        found = state.model(name, None).name
        return _json(next(one for one in models_of(state) if one["id"] == found))

    @routes.post(
        "/classify",
        summary="Answer texts",
        response_class=Response,
        responses=schemas.answers("Classified", *schemas.ASKING),
        openapi_extra=schemas.CLASSIFY_BODY,
    )
    async def classify(request: Request) -> Response:
        require_type(request, "application/json")
        body = await body_of(request, server.config.max_body_bytes)
        asked = json_object(read_json(body), "the request")
        model = optional(asked.get("model"), str, "'model'") or AUTO
        if "messages" in asked:
            raise malformed("'messages' is not supported; send 'input'")
        for name, why in _NOT_HERE.items():
            if not among(asked.get(name), (None, *_AS_IT_IS.get(name, ()))):
                raise malformed(f"{name!r} is not supported here; {why}")
        wanted = texts(asked.get("input"), "'input'")
        too_many(len(wanted), server.config.max_rows)
        rows = tuple(row_of({"text": text}, f"input {n}") for n, text in enumerate(wanted))
        deadline = deadline_of(request, server.config.deadline_ms)
        answered = await answer(server, request, Ask(rows, model), deadline)
        return _json(classified(answered, model))

    return routes


def models_of(state: ServingState) -> list[dict[str, Any]]:
    """The names that can be asked, as vLLM lists its models and their adapters."""
    loaded = int(datetime.fromisoformat(state.loaded_at.replace("Z", "+00:00")).timestamp())
    routed = any(info.name == AUTO for info in state.models)
    return [
        {
            "id": info.name,
            "object": "model",
            "created": loaded,
            "owned_by": "expertbank",
            "root": info.expert or info.name,
            "parent": AUTO if routed and info.name != AUTO else None,
            "max_model_len": state.predictor.model.spec.max_length,
            "permission": [],
        }
        for info in state.models
    ]


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
    found = []
    for index, one in enumerate(answered.predictions):
        document = document_of(one, answered.state)
        found.append(
            {
                "index": index,
                "label": label_text(one),
                "probs": list(one.scores.values()),
                "num_classes": len(one.scores),
                "labels": list(one.scores),
                **{name: document[name] for name in _TOLD},
                **{name: document[name] for name in _SOMETIMES if name in document},
            }
        )
    return found


def _json(document: Any) -> Response:
    return Response(encode(document), media_type="application/json")
