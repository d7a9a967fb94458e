"""Request targets as proxies write them: with a scheme and a host before the path."""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_ORIGIN = re.compile(rb"https?://[^/]*", re.IGNORECASE)


class Addressed:
    """Takes ``GET http://host/path`` for ``GET /path`` (RFC 9112, section 3.2.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection of ASGI."""
        raw = scope.get("raw_path") or b""
        if scope["type"] == "http" and (origin := _ORIGIN.match(raw)):
            path = raw[origin.end() :] or b"/"
            scope.update(raw_path=path, path=unquote(path.decode("ascii")))
        await self.app(scope, receive, send)
