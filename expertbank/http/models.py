"""``GET /v1/models`` and one of them, as OpenAI and vLLM have them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from expertbank.http.documents import reply
from expertbank.http.protocol import Protocol
from expertbank.http.schemas import ANY, TEXT, WHOLE, answers, array, nullable, record, ref
from expertbank.serving.asking import AUTO
from expertbank.serving.live import ServingState
from expertbank.serving.server import Server


def router(server: Server) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["as vLLM has them"])

    @routes.get(
        "/v1/models",
        summary="Every name that can be asked",
        response_class=Response,
        responses=answers("Models", 503),
    )
    async def models() -> Response:
        return reply({"object": "list", "data": models_of(server.current)})

    @routes.get(
        "/v1/models/{name}",
        summary="One of them",
        response_class=Response,
        responses=answers("Model", 404, 503),
    )
    async def one_model(name: str) -> Response:
        state = server.current
        found = state.model(name, None).name
        return reply(next(one for one in models_of(state) if one["id"] == found))

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


PROTOCOL = Protocol(
    router,
    {
        "Models": record(
            {
                "object": {"const": "list"},
                "data": array(ref("Model")),
            }
        ),
        "Model": record(
            {
                "id": TEXT,
                "object": {"const": "model"},
                "created": WHOLE,
                "owned_by": TEXT,
                "root": TEXT,
                "parent": nullable(TEXT),
                "max_model_len": WHOLE,
                "permission": array(ANY),
            }
        ),
    },
)
