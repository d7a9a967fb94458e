"""The order in which rows are answered, and what goes into one pass."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from expertbank.serving.line import Line, Size

SIZES = st.builds(
    lambda length, sequences: Size(length, sequences, length * sequences),
    st.integers(1, 40),
    st.integers(1, 3),
)
REQUESTS = st.lists(st.tuples(st.lists(SIZES, min_size=1, max_size=30), st.integers(0, 2)))


def drained(line: Line[int]) -> list[list[tuple[int, int]]]:
    found = []
    while batch := line.take():
        found.append([(place.owner, place.index) for place in batch])
    return found


@given(REQUESTS, st.integers(1, 9), st.integers(8, 120))
def test_every_row_is_taken_once_and_no_batch_exceeds_its_bounds(
    requests: list[tuple[list[Size], int]], most: int, tokens: int
) -> None:
    line: Line[int] = Line(most, tokens)
    for owner, (sizes, together) in enumerate(requests):
        line.add(owner, sizes, together)
    taken = []
    while batch := line.take():
        assert len(batch) <= most
        cost = sum(place.sequences for place in batch) * max(place.length for place in batch)
        assert cost <= tokens or len(batch) == 1
        assert len({place.together for place in batch}) == 1, "states never share a pass"
        taken += [(place.owner, place.index) for place in batch]
    assert len(line) == 0
    expected = [(o, i) for o, (sizes, _) in enumerate(requests) for i in range(len(sizes))]
    assert sorted(taken) == expected


@given(REQUESTS, st.integers(1, 9))
def test_the_row_that_stands_first_is_in_the_next_batch_whatever_its_length(
    requests: list[tuple[list[Size], int]], most: int
) -> None:
    line: Line[int] = Line(most, 64)
    turns = {}
    for owner, (sizes, together) in enumerate(requests):
        line.add(owner, sizes, together)
    while len(line):
        first = line._places[0]  # the promise is about the order inside
        assert first in line.take()
        turns[first.turn] = None
    assert list(turns) == sorted(turns)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.data())
def test_a_request_taken_out_leaves_no_row_and_the_others_keep_theirs(
    counts: list[int], data: st.DataObject
) -> None:
    line: Line[int] = Line(4, 1000)
    for owner, count in enumerate(counts):
        line.add(owner, [Size(5, 1, 5)] * count, 0)
    gone = data.draw(st.integers(0, len(counts) - 1))
    assert line.remove(gone) == counts[gone]
    owners = [owner for batch in drained(line) for owner, _ in batch]
    assert owners.count(gone) == 0
    assert all(owners.count(o) == count for o, count in enumerate(counts) if o != gone)


def test_a_small_request_behind_a_huge_one_is_in_the_next_batch() -> None:
    line: Line[str] = Line(32, 10_000)
    line.add("huge", [Size(8, 1, 8)] * 1000, 0)
    line.take()
    line.add("small", [Size(8, 1, 8)], 0)
    assert line.ahead(1) <= 1
    assert "small" in {place.owner for place in line.take()}


def test_a_huge_request_is_not_starved_by_small_ones_that_keep_coming() -> None:
    line: Line[str] = Line(8, 10_000)
    line.add("huge", [Size(8, 1, 8)] * 64, 0)
    batches = 0
    while any(place.owner == "huge" for place in line._places):
        # Small ones alone come twice as fast as they can be answered, for ever.
        for number in range(16):
            line.add(f"small {batches} {number}", [Size(8, 1, 8)], 0)
        line.take()
        batches += 1
        assert batches < 200
    assert batches <= 32 * 2 + 8


def test_rows_of_one_length_share_a_pass_where_enough_wait() -> None:
    line: Line[int] = Line(4, 10_000)
    for owner in range(16):
        line.add(owner, [Size(10 if owner % 2 else 50, 1, 10)], 0)
    widths = []
    while batch := line.take():
        widths.append({place.length for place in batch})
    assert all(len(width) == 1 for width in widths)


def test_how_many_rows_stand_ahead_is_what_is_taken_before() -> None:
    line: Line[str] = Line(4, 10_000)
    line.add("first", [Size(5, 1, 5)] * 10, 0)
    ahead = line.ahead(1)
    line.add("own", [Size(5, 1, 5)], 0)
    order = [owner for batch in drained(line) for owner, _ in batch]
    assert order.index("own") <= ahead + line._max_rows
    assert ahead == 1


def test_where_a_pass_costs_little_by_itself_short_rows_are_kept_apart_from_long_ones() -> None:
    line: Line[int] = Line(8, 10_000)
    for owner in range(8):
        line.add(owner, [Size(10 if owner < 4 else 100, 1, 10)], 0)
    assert len(line.take(fixed=80)) == 4
    assert len(line.take(fixed=80)) == 4
    for owner in range(8):
        line.add(owner, [Size(10 if owner < 4 else 100, 1, 10)], 0)
    assert len(line.take(fixed=10_000)) == 8
