"""Events pass byte for byte, whole, wherever the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expertbank.http.sse import DONE, MOST, Events

STREAM = b'data: {"a": 1}\n\n: remark\n\ndata: two\ndata: lines\n\n' + DONE


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_any_cut_gives_the_same_bytes_and_only_whole_events(cuts: list[int]) -> None:
    events, places = Events(), [0, *sorted(cuts), len(STREAM)]
    found = b""
    for start, end in pairwise(places):
        whole = events.add(STREAM[start:end])
        assert not whole or whole.endswith(b"\n\n")
        found += whole
    assert found + events.rest == STREAM
    assert events.done


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_every_end_of_an_event_counts(end: bytes) -> None:
    assert Events().add(b"data: 1" + end + b"data") == b"data: 1" + end


@pytest.mark.parametrize("stream", [b"data: 1\n\n", b'data: "data: [DONE]" and on\n\n', b""])
def test_a_stream_that_does_not_say_so_is_not_done(stream: bytes) -> None:
    events = Events()
    events.add(stream)
    assert not events.done


def test_an_event_without_end_is_not_kept_for_ever() -> None:
    events = Events()
    assert events.add(b"x" * MOST) == b""
    assert len(events.add(b"x")) == MOST + 1
    assert events.rest == b""
