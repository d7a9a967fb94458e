"""The Open Inference Protocol, version 2, with the binary tensor data extension.

Model ``auto`` routes; a task's or a group's name is that task or group; versions are the task's
experts'. Triton's client and KServe's speak it.
"""

from __future__ import annotations

from importlib.metadata import version as installed
from typing import Any

from fastapi import APIRouter, Request, Response

from expertbank.errors import NotFoundError
from expertbank.http.asking import answer
from expertbank.http.bodies import read, require_type
from expertbank.http.documents import reply
from expertbank.http.oip.answer import write_answer
from expertbank.http.oip.binary import LENGTH_HEADER
from expertbank.http.oip.request import INPUTS, read_request
from expertbank.http.oip.schemas import INFER_BODY, SCHEMAS, infer_answers
from expertbank.http.oip.tensors import OUTPUTS, Tensors
from expertbank.http.problems import not_ready, response
from expertbank.http.protocol import Protocol
from expertbank.http.schemas import answers
from expertbank.serving.asking import Ask
from expertbank.serving.live import ModelInfo, ServingState
from expertbank.serving.server import Server

PLATFORM = "expertbank_tt_lora"
EXTENSIONS = ("binary_tensor_data",)


def router(server: Server) -> APIRouter:
    """The protocol's routes."""
    routes = APIRouter(tags=["Open Inference Protocol"])

    @routes.get(
        "/v2",
        summary="Name, version and extensions of the server",
        response_class=Response,
        responses=answers("ServerMetadata"),
    )
    async def metadata() -> Response:
        return reply(
            {
                "name": "expertbank",
                "version": installed("expertbank"),
                "extensions": list(EXTENSIONS),
            }
        )

    @routes.get(
        "/v2/health/live",
        summary="Whether the process answers at all",
        response_class=Response,
        responses=answers("Live"),
    )
    async def live() -> Response:
        return reply({"live": True})

    @routes.get(
        "/v2/health/ready",
        summary="Whether rows can be answered",
        description="503 until the model is warm, while it is broken, and while the server stops.",
        response_class=Response,
        responses=answers("Ready", 503),
    )
    async def ready(request: Request) -> Response:
        if server.state != "ready":
            return _not_ready(server, request)
        return reply({"ready": True})

    @routes.get(
        "/v2/models/{name}",
        summary="Inputs, outputs, labels and versions of a model",
        response_class=Response,
        responses=answers("ModelMetadata", 404, 503),
    )
    async def model(name: str) -> Response:
        return reply(model_metadata(server.current, name, None))

    @routes.get(
        "/v2/models/{name}/versions/{version}",
        summary="The same of one version",
        response_class=Response,
        responses=answers("ModelMetadata", 404, 503),
    )
    async def model_version(name: str, version: str) -> Response:
        return reply(model_metadata(server.current, name, _number(name, version)))

    @routes.get(
        "/v2/models/{name}/ready",
        summary="Whether a model answers",
        response_class=Response,
        responses=answers("ModelReady", 404, 503),
    )
    async def model_ready(name: str, request: Request) -> Response:
        return _ready_model(server, request, name, None)

    @routes.get(
        "/v2/models/{name}/versions/{version}/ready",
        summary="Whether a version of a model answers",
        response_class=Response,
        responses=answers("ModelReady", 404, 503),
    )
    async def version_ready(name: str, version: str, request: Request) -> Response:
        return _ready_model(server, request, name, _number(name, version))

    @routes.post(
        "/v2/models/{name}/infer",
        summary="Answer rows",
        response_class=Response,
        responses=infer_answers(),
        openapi_extra=INFER_BODY,
    )
    async def infer(name: str, request: Request) -> Response:
        return await _infer(server, request, name, None)

    @routes.post(
        "/v2/models/{name}/versions/{version}/infer",
        summary="Answer rows by one version of a task's expert",
        response_class=Response,
        responses=infer_answers(),
        openapi_extra=INFER_BODY,
    )
    async def infer_version(name: str, version: str, request: Request) -> Response:
        return await _infer(server, request, name, _number(name, version))

    return routes


async def _infer(server: Server, request: Request, name: str, version: int | None) -> Response:
    require_type(request, "application/json", "application/octet-stream", bare=True)
    server.current.model(name, version)  # A name that nobody has is told before the body is read.
    config, length = server.config, request.headers.get(LENGTH_HEADER)
    wanted = await read(
        request, config.max_body_bytes, lambda body: read_request(body, length, config.allow)
    )
    ask = Ask(wanted.rows, name, version, wanted.abstain, wanted.fallback)
    answered = await answer(server, request, ask, wanted.timeout)
    info = answered.state.model(name, version)
    told = version if version is not None else info.newest
    content, head = write_answer(
        wanted, Tensors(answered), name, None if told is None else str(told)
    )
    if head is None:
        return Response(content, media_type="application/json")
    return Response(
        content,
        headers={LENGTH_HEADER: str(head)},
        media_type="application/octet-stream",
    )


def model_metadata(state: ServingState, name: str, version: int | None) -> dict[str, Any]:
    """What the protocol tells of a model.

    Raises:
        NotFoundError: no such model, or not in this version.
    """
    info = state.model(name, version)
    return {
        "name": info.name,
        "versions": [str(number) for number in info.versions],
        "platform": PLATFORM,
        "inputs": list(INPUTS),
        "outputs": [output.metadata() for output in OUTPUTS],
        "parameters": _parameters(info, state),
    }


def _parameters(info: ModelInfo, state: ServingState) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": info.kind,
        "labels": list(info.labels),
        "tasks": list(info.tasks),
        "expert": info.expert,
        "expert_digest": None if info.expert is None else info.digest,
        "group": info.group,
        "router": state.router_version,
        "router_digest": state.router_digest,
        "backbone_digest": state.backbone_digest,
    }
    return {key: value for key, value in found.items() if value is not None}


def _number(name: str, text: str) -> int:
    """A version as it stands in an address.

    Raises:
        NotFoundError: it is no number, so there is no such version.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFoundError(f"model {name!r} has no version {text[:40]!r}; versions are numbers")
    return int(text)


def _ready_model(server: Server, request: Request, name: str, version: int | None) -> Response:
    if server.state != "ready":
        return _not_ready(server, request)
    server.current.model(name, version)
    return reply({"name": name, "ready": True})


def _not_ready(server: Server, request: Request) -> Response:
    return response(not_ready(server.state), request.state.request_id)


PROTOCOL = Protocol(router, SCHEMAS)
