"""Requests of the Open Inference Protocol as values: no network here.

Inputs are ``text`` (required), ``text_pair`` and ``choices``, all ``BYTES``: of shape ``[n]`` or
``[n, 1]``, choices ``[n, k]``. An empty pair is none; empty choices at a row's end are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import prod
from typing import Any

from expertbank.data.inputs import row_of
from expertbank.http.documents import among, json_object, kind_of, optional, read_object
from expertbank.http.oip import binary
from expertbank.http.oip.tensors import BY_NAME, OUTPUTS, Output
from expertbank.http.problems import malformed
from expertbank.records import Row

INPUTS: tuple[dict[str, Any], ...] = (
    {
        "name": "text",
        "datatype": "BYTES",
        "shape": [-1],
        "parameters": {"description": "The texts, in UTF-8; [n] or [n, 1]."},
    },
    {
        "name": "text_pair",
        "datatype": "BYTES",
        "shape": [-1],
        "parameters": {"optional": True, "description": "Second texts; an empty one is none."},
    },
    {
        "name": "choices",
        "datatype": "BYTES",
        "shape": [-1, -1],
        "parameters": {
            "optional": True,
            "description": "Choices of each text; empty ones at a row's end are left out.",
        },
    },
)
_NAMES = tuple(one["name"] for one in INPUTS)
_PARAMETERS = ("abstain", "fallback", "timeout", "binary_data_output")
_IDLE: Mapping[str, tuple[Any, ...]] = {
    "sequence_id": (0, ""),
    "sequence_start": (False,),
    "sequence_end": (False,),
}
"""Parameters of Triton's sequences, with the values that mean none."""
_MOST_PARAMETERS = 64
"""Each is compared with those that there are."""
_LARGEST = 2**31


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that was asked for, and whether as binary data."""

    output: Output
    binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request for inference.

    Attributes:
        rows: what to answer.
        outputs: what to give back, in this order.
        id: that the answer repeats; ``None`` without one.
        abstain: parameter: answer ``unknown`` to rows like no task.
        fallback: parameter: the task that answers such rows instead.
        timeout: parameter, in seconds; ``None`` for the server's own.
    """

    rows: tuple[Row, ...]
    outputs: tuple[Wanted, ...]
    id: str | None = None
    abstain: bool = False
    fallback: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class _Given:
    """One input: its shape and its elements as text."""

    name: str
    shape: tuple[int, ...]
    texts: list[str] = field(default_factory=list)


def read_request(
    body: bytes, header_length: str | None, allow: Callable[[int], None]
) -> InferRequest:
    """The request that a body holds.

    Args:
        body: of the request.
        header_length: what ``Inference-Header-Content-Length`` says, if it stands there.
        allow: refuses more rows than one request may bring.

    Raises:
        RefusedError: not such a request.
        DataError: a row that cannot be answered: it has no text, or one that is too long.
    """
    head, rest = binary.split(body, header_length)
    document = read_object(head)
    parameters = _parameters(document, "the request")
    _require_known(parameters)
    given = _inputs(document.get("inputs"), rest)
    timeout = optional(parameters.get("timeout"), int, "parameter 'timeout'")
    if timeout is not None and not 0 < timeout < 2**63:
        raise malformed("parameter 'timeout' must be microseconds above 0, in 64 bits")
    return InferRequest(
        _rows(given, allow),
        _outputs(document.get("outputs"), parameters),
        optional(document.get("id"), str, "'id'"),
        optional(parameters.get("abstain"), bool, "parameter 'abstain'") or False,
        optional(parameters.get("fallback"), str, "parameter 'fallback'"),
        None if timeout is None else timeout / 1e6,
    )


def _inputs(value: Any, rest: memoryview) -> dict[str, _Given]:
    if not isinstance(value, list) or not value:
        raise malformed("'inputs' must be an array of tensors with one named 'text'")
    found: dict[str, _Given] = {}
    place = 0
    for number, entry in enumerate(value):
        tensor = json_object(entry, f"inputs[{number}]")
        name = tensor.get("name")
        if not isinstance(name, str) or name not in _NAMES:
            raise malformed(f"inputs[{number}]: no such input; there are {', '.join(_NAMES)}")
        if name in found:
            raise malformed(f"input {name!r} stands there twice")
        if tensor.get("datatype") != "BYTES":
            raise malformed(f"input {name!r}: its datatype must be BYTES")
        shape = _shape(tensor.get("shape"), name)
        size = _binary_size(_parameters(tensor, f"input {name!r}"), name)
        if size is None:
            found[name] = _Given(name, shape, _json_texts(tensor.get("data"), shape, name))
            continue
        if "data" in tensor:
            raise malformed(f"input {name!r}: data is given as JSON and as binary data")
        if size > len(rest) - place:
            raise malformed(f"input {name!r}: the body ends before its binary data does")
        elements = binary.read_bytes(rest[place : place + size], prod(shape), name)
        found[name] = _Given(name, shape, [_text(element, name) for element in elements])
        place += size
    if place != len(rest):
        raise malformed(f"{len(rest) - place} bytes are left behind the last input")
    if "text" not in found:
        raise malformed("there is no input 'text'")
    return found


def _shape(value: Any, name: str) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(size) is int for size in value)
    if not whole or not 1 <= len(value) <= 2 or not all(0 <= size < _LARGEST for size in value):
        wanted = "[n, k]" if name == "choices" else "[n] or [n, 1]"
        raise malformed(f"input {name!r}: its shape must be {wanted}")
    return tuple(value)


def _binary_size(parameters: Mapping[str, Any], name: str) -> int | None:
    if "shared_memory_region" in parameters:
        raise malformed(f"input {name!r}: shared memory is not supported")
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise malformed(f"input {name!r}: binary_data_size must be a number of bytes")
    return size


def _json_texts(value: Any, shape: tuple[int, ...], name: str) -> list[str]:
    """The elements of JSON data, flat or nested as the shape is."""
    if not isinstance(value, list):
        raise malformed(f"input {name!r}: data must be an array, got {kind_of(value)}")
    flat: list[Any] = value
    if any(isinstance(item, list) for item in value):
        inner = prod(shape[1:])
        if len(value) != shape[0] or not all(
            isinstance(item, list) and len(item) == inner for item in value
        ):
            raise malformed(f"input {name!r}: data is nested otherwise than the shape {[*shape]}")
        flat = [one for item in value for one in item]
    if len(flat) != prod(shape):
        raise malformed(f"input {name!r}: {len(flat)} elements do not make the shape {[*shape]}")
    wrong = next((item for item in flat if not isinstance(item, str)), None)
    if wrong is not None or None in flat:
        raise malformed(f"input {name!r}: elements must be texts, got {kind_of(wrong)}")
    return flat


def _text(element: bytes, name: str) -> str:
    try:
        return element.decode("utf-8")
    except UnicodeDecodeError:
        raise malformed(f"input {name!r}: an element is not UTF-8") from None


def _rows(given: Mapping[str, _Given], allow: Callable[[int], None]) -> tuple[Row, ...]:
    texts = given["text"]
    count = texts.shape[0]
    if not count:
        raise malformed("input 'text' holds no row")
    allow(count)
    for one in given.values():
        if one.shape[0] != count:
            raise malformed(
                f"input {one.name!r} has {one.shape[0]} rows, and input 'text' has {count}"
            )
        if one.name != "choices" and prod(one.shape) != count:
            raise malformed(f"input {one.name!r}: its shape must be [n] or [n, 1]")
        if one.name == "choices" and len(one.shape) != 2:
            raise malformed("input 'choices': its shape must be [n, k]")
    pairs, choices = given.get("text_pair"), given.get("choices")
    rows = []
    for number in range(count):
        values: dict[str, Any] = {"text": texts.texts[number]}
        if pairs is not None and pairs.texts[number]:
            values["text_pair"] = pairs.texts[number]
        if choices is not None:
            width = choices.shape[1]
            own = _trimmed(choices.texts[number * width : (number + 1) * width])
            if own:
                values["choices"] = own
        rows.append(row_of(values, f"row {number}"))
    return tuple(rows)


def _trimmed(texts: Sequence[str]) -> list[str]:
    end = len(texts)
    while end and not texts[end - 1]:
        end -= 1
    return list(texts[:end])


def _outputs(value: Any, parameters: Mapping[str, Any]) -> tuple[Wanted, ...]:
    every = optional(parameters.get("binary_data_output"), bool, "parameter 'binary_data_output'")
    if value is None or value == []:
        return tuple(Wanted(output, bool(every)) for output in OUTPUTS)
    if not isinstance(value, list):
        raise malformed("'outputs' must be an array")
    found: list[Wanted] = []
    for number, entry in enumerate(value):
        wish = json_object(entry, f"outputs[{number}]")
        name = wish.get("name")
        if not isinstance(name, str) or name not in BY_NAME:
            raise malformed(f"outputs[{number}]: no such output; there are {', '.join(BY_NAME)}")
        if any(one.output.name == name for one in found):
            raise malformed(f"output {name!r} stands there twice")
        own = _parameters(wish, f"output {name!r}")
        unknown = sorted(own.keys() - {"binary_data"})
        if unknown:
            raise malformed(f"output {name!r}: {unknown[0]} is not supported")
        asked = optional(own.get("binary_data"), bool, f"output {name!r}: binary_data")
        found.append(Wanted(BY_NAME[name], bool(every) if asked is None else asked))
    return tuple(found)


def _require_known(parameters: Mapping[str, Any]) -> None:
    """Refuse a slip in the name of a parameter, and sequences, which there are none of here.

    Others are passed over, as the protocol has it: clients send some of their own.
    """
    if len(parameters) > _MOST_PARAMETERS:
        raise malformed(f"the request has more than {_MOST_PARAMETERS} parameters")
    for name, value in parameters.items():
        if name in _IDLE and value is not None and not among(value, _IDLE[name]):
            raise malformed(f"parameter {name!r} is not supported here; leave it out")
        if name not in _PARAMETERS and (near := get_close_matches(name, _PARAMETERS, n=1)):
            known = ", ".join(_PARAMETERS)
            raise malformed(
                f"there is no parameter {name[:40]!r}, did you mean {near[0]}? There are {known}"
            )


def _parameters(holder: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    value = holder.get("parameters")
    return {} if value is None else json_object(value, f"{what}: 'parameters'")
