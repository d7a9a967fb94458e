"""Bodies that come compressed: unpacked within the same bounds as others."""

from __future__ import annotations

import zlib

from fastapi import Request

from expertbank.http.problems import RefusedError, malformed

ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""Content encodings that are unpacked, and what zlib calls them."""
_IN_MEMBERS = frozenset({"gzip", "x-gzip"})
"""Those of which several streams may follow each other (RFC 1952, section 2.2)."""
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


async def body_of(request: Request, most: int) -> bytes:
    """The whole body of a request, unpacked.

    Raises:
        RefusedError: as ``unpacked``.
    """
    return unpacked(await request.body(), request.headers.get("content-encoding", ""), most)
