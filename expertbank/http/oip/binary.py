"""Tensors as bytes: the binary tensor data extension of the Open Inference Protocol.

Little-endian, row-major, without padding; an element of ``BYTES`` is its length in four bytes and
then its bytes. In a body the JSON comes first, then the tensors in its order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from expertbank.http.problems import malformed

LENGTH_HEADER = "Inference-Header-Content-Length"
_LENGTH = struct.Struct("<I")
_FORMATS = {"BOOL": "?", "INT64": "q", "FP64": "d"}


def read_bytes(data: memoryview, count: int, name: str) -> list[bytes]:
    """The elements of a ``BYTES`` tensor.

    Args:
        data: the tensor's bytes.
        count: elements that its shape tells of.
        name: of the tensor, for messages.

    Raises:
        RefusedError: lengths that do not fit the bytes, or another number of elements.
    """
    found: list[bytes] = []
    place, end = 0, len(data)
    while place < end:
        if end - place < _LENGTH.size:
            raise malformed(f"input {name!r}: its binary data ends within a length")
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        if length > end - place:
            raise malformed(f"input {name!r}: an element is longer than its binary data")
        found.append(bytes(data[place : place + length]))
        place += length
        if len(found) > count:
            break
    if len(found) != count:
        more = "more" if len(found) > count else "fewer"
        raise malformed(f"input {name!r}: its binary data holds {more} elements than its shape")
    return found


def write(datatype: str, values: Sequence[object]) -> bytes:
    """A tensor's elements, in row-major order, as bytes.

    Args:
        datatype: ``BYTES``, whose elements are text, ``BOOL``, ``INT64`` or ``FP64``.
        values: the elements.
    """
    if datatype != "BYTES":
        return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    parts: list[bytes] = []
    for value in values:
        element = str(value).encode("utf-8", "surrogatepass")
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)


def split(body: bytes, header: str | None) -> tuple[memoryview, memoryview]:
    """The JSON of a body and the binary data behind it.

    Args:
        body: the whole.
        header: what ``Inference-Header-Content-Length`` says; without it all is JSON.

    Raises:
        RefusedError: no number, or more than there is.
    """
    whole = memoryview(body)
    if header is None:
        return whole, whole[len(whole) :]
    if not (header.isascii() and header.isdigit() and len(header) < 16):
        raise malformed(f"{LENGTH_HEADER} must be a number of bytes")
    length = int(header)
    if length > len(whole):
        raise malformed(f"{LENGTH_HEADER} is {length}, and the body has {len(whole)} bytes")
    return whole[:length], whole[length:]
