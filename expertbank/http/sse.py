"""Server-sent events: how they are written, and how those of others pass through whole."""

from __future__ import annotations

import re
from typing import Any

from expertbank.http.documents import encode

EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"
"""The event that ends a stream of completions."""
_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LAST = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]\s*$")
MOST = 2**20
"""Bytes of an event that is not whole yet; more are passed on as they are."""


def event(document: Any) -> bytes:
    """A document as one event."""
    return b"data: " + encode(document) + b"\n\n"


class Events:
    """Bytes of a stream, handed on event by event, so that the last is never half.

    Attributes:
        rest: what came after the last whole event.
        done: whether the stream said that it was done.
    """

    def __init__(self) -> None:
        self.rest = b""
        self.done = False

    def add(self, part: bytes) -> bytes:
        """Take a part of the stream; gives the events that are whole now, byte for byte."""
        held = self.rest + part
        ends = [found.end() for found in _END.finditer(held)]
        cut = ends[-1] if ends else 0
        if len(held) - cut > MOST:
            cut = len(held)
        whole, self.rest = held[:cut], held[cut:]
        self.done = self.done or _LAST.search(whole + self.rest) is not None
        return whole
