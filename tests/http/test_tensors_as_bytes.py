"""The binary tensor extension and the reading of requests, without a network."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expertbank.errors import InputError
from expertbank.http.documents import read_json
from expertbank.http.oip import binary
from expertbank.http.oip.request import read_request
from expertbank.http.problems import RefusedError
from expertbank.serving.limits import ServeConfig

T = TypeVar("T")
_ALLOW = ServeConfig(max_rows=10).allow


def _or_refused(read: Callable[[], T]) -> T | None:
    """What is read, or ``None`` where it is refused for what the caller sent."""
    try:
        return read()
    except InputError:
        return None
    except RefusedError as error:
        if 400 <= error.status < 500:
            return None
        raise


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_texts_come_back_as_they_were_written(texts: list[str]) -> None:
    data = binary.write("BYTES", texts)
    assert [one.decode() for one in binary.read_bytes(memoryview(data), len(texts), "t")] == texts


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_bytes_are_those_that_tritons_client_writes(texts: list[str]) -> None:
    utils = pytest.importorskip("tritonclient.utils")
    theirs = utils.serialize_byte_tensor(np.array(texts, dtype=np.object_)).item()
    assert binary.write("BYTES", texts) == theirs


@given(st.lists(st.floats(allow_nan=False)), st.lists(st.booleans()))
def test_numbers_are_little_endian(numbers: list[float], flags: list[bool]) -> None:
    assert np.frombuffer(binary.write("FP64", numbers), "<f8").tolist() == numbers
    assert np.frombuffer(binary.write("BOOL", flags), np.bool_).tolist() == flags
    assert binary.write("INT64", [-1, 2**40]) == struct.pack("<2q", -1, 2**40)


@given(st.binary(max_size=64), st.integers(0, 5))
def test_any_bytes_are_elements_or_refused(data: bytes, count: int) -> None:
    found = _or_refused(lambda: binary.read_bytes(memoryview(data), count, "t"))
    if found is not None:
        assert len(found) == count
        assert sum(len(one) + 4 for one in found) == len(data)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_any_json_is_a_request_or_refused(document: Any) -> None:
    _or_refused(lambda: read_request(json.dumps(document).encode(), None, _ALLOW))


_TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["text", "text_pair", "choices", "x"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3),
        "datatype": st.sampled_from(["BYTES", "INT64"]),
    },
    optional={
        "data": st.lists(st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3)),
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 20)}),
    },
)


@given(st.lists(_TENSOR, max_size=3), st.binary(max_size=40))
def test_any_tensors_are_rows_or_refused(tensors: list[Any], rest: bytes) -> None:
    head = json.dumps({"inputs": tensors}).encode()
    found = _or_refused(lambda: read_request(head + rest, str(len(head)), _ALLOW))
    assert found is None or 1 <= len(found.rows) <= 3


@given(st.binary(max_size=64))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    _or_refused(lambda: read_json(data))
