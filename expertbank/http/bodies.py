"""Bodies of requests: which are taken, unpacked within bounds, read where they hold up nobody."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastapi import Request

from expertbank.http.documents import read_object
from expertbank.http.problems import RefusedError, malformed
from expertbank.http.room import take

T = TypeVar("T")

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content encodings that are unpacked, and what zlib calls them."""
_IN_MEMBERS = frozenset({"gzip", "x-gzip"})
"""Those of which several streams may follow each other (RFC 1952, section 2.2)."""
INLINE = 16 * 2**10
"""Bytes that are read in the loop's own thread; a hop to another costs more than that."""
_PART = 4096
"""Bytes that are unpacked at once: behind a short member the rest of them is looked at again."""


def unpacked(body: bytes, encoding: str, most: int) -> bytes:
    """A body without its content encoding.

    Args:
        body: as it came.
        encoding: what ``Content-Encoding`` says; empty for none.
        most: bytes that it may have when it is unpacked.

    Raises:
        RefusedError: 415 for another encoding, 413 for more bytes, 400 for damaged ones.
    """
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in ENCODINGS:
        accepted = {"Accept-Encoding": "gzip, deflate, identity"}
        raise RefusedError(415, "send the body plain, or as gzip or deflate", accepted)
    plain, place, ended = bytearray(), 0, False
    while not ended or (encoding in _IN_MEMBERS and place < len(body)):
        unpacking = zlib.decompressobj(ENCODINGS[encoding])
        while not unpacking.eof:
            part = body[place : place + _PART]
            if not part:
                raise malformed(f"the body ends before its {encoding} stream does")
            try:
                plain += unpacking.decompress(part, most + 1 - len(plain))
            except zlib.error:
                raise malformed(f"the body is not valid {encoding}") from None
            if len(plain) > most:
                raise RefusedError(413, f"the body has more than {most} bytes when it is unpacked")
            place += len(part) - len(unpacking.unused_data)
        ended = True
    if place < len(body):
        raise malformed(f"the body is not one whole {encoding} stream")
    return bytes(plain)


async def read(request: Request, most: int, parse: Callable[[bytes], T]) -> T:
    """What the whole body of a request says, unpacked.

    What is large or packed takes a while, and is read on another thread: others are answered
    meanwhile.

    Raises:
        RefusedError: as ``unpacked`` and ``take``, and what ``parse`` raises.
    """
    body = await request.body()
    encoding = request.headers.get("content-encoding", "")

    def work() -> T:
        plain = unpacked(body, encoding, most)
        if plain is not body:
            take(request.scope, len(plain))
        return parse(plain)

    return await asyncio.to_thread(work) if encoding or len(body) > INLINE else work()


async def json_asked(request: Request, most: int) -> Mapping[str, Any]:
    """The JSON object that a request is, told to be JSON.

    Raises:
        RefusedError: it is something else.
    """
    require_type(request, "application/json")
    return await read(request, most, read_object)


def require_type(request: Request, *allowed: str, bare: bool = False) -> str:
    """The media type of a body, in lower case, if it is allowed.

    A browser sends some types to any server without asking; they are not among those allowed, so
    no page elsewhere can ask a server on its reader's own machine.

    Args:
        request: the request.
        allowed: media types.
        bare: whether a body without a type is taken.

    Raises:
        RefusedError: 415; 403 where a page of another site sent a body without a type.
    """
    told = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if bare and not told:
        require_same_site(request)
    elif told not in allowed:
        raise RefusedError(415, f"send the body as Content-Type: {allowed[0]}")
    return told


def require_same_site(
    request: Request, refusal: str = "a page of another site asked for this"
) -> None:
    """Refuse what a browser sends for a page of another site.

    Raises:
        RefusedError: 403, with ``refusal``.
    """
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise RefusedError(403, refusal)
