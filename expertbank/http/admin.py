"""``POST /admin/reload``: take over what is new in bank or bundle, now."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from expertbank.http.bodies import require_same_site
from expertbank.http.documents import reply
from expertbank.http.protocol import Protocol
from expertbank.http.schemas import FLAG, TEXT, WHOLE, answers, array, nullable, record
from expertbank.serving.server import Server


def router(server: Server) -> APIRouter:
    """The route; it names no path, and nothing but the served bank or bundle is loaded."""
    routes = APIRouter(tags=["administration"])
    one_at_a_time = asyncio.Lock()  # who waits here holds up no thread

    @routes.post(
        "/admin/reload",
        summary="Look for a new router or expert, warm it and swap it in",
        response_class=Response,
        responses=answers("Reloaded", 403, 500, 503),
    )
    async def reload(request: Request) -> Response:
        require_same_site(request)
        async with one_at_a_time:
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
        return reply(document)

    return routes


PROTOCOL = Protocol(
    router,
    {
        "Reloaded": record(
            {
                "reloaded": FLAG,
                "state": WHOLE,
                "router": nullable(WHOLE),
                "router_digest": nullable(TEXT),
                "backbone_digest": TEXT,
                "loaded_at": TEXT,
                "models": array(TEXT),
            }
        )
    },
)
