"""``POST /admin/reload``: take over what is new in bank or bundle, now."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from expertbank.http import schemas
from expertbank.http.asking import require_same_site
from expertbank.http.documents import encode
from expertbank.serving.server import Server


def router(server: Server) -> APIRouter:
    """The route; it names no path, and nothing but the served bank or bundle is loaded."""
    routes = APIRouter(tags=["administration"])

    @routes.post(
        "/admin/reload",
        summary="Look for a new router or expert, warm it and swap it in",
        response_class=Response,
        responses=schemas.answers("Reloaded", 403, 500, 503),
    )
    async def reload(request: Request) -> Response:
        require_same_site(request)
        found = await asyncio.to_thread(server.reload)
        state = server.current if found is None else found
        document = {
            "reloaded": found is not None,
            "state": state.number,
            "router": state.router_version,
            "router_digest": state.router_digest,
            "backbone_digest": state.backbone_digest,
            "loaded_at": state.loaded_at,
            "models": [info.name for info in state.models],
        }
        return Response(encode(document), media_type="application/json")

    return routes
