"""Splits depend on content and seed alone, and nothing that belongs together is torn apart."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expertbank.data.splits import (
    components,
    hold_out_for_selection,
    normalised_input,
    split,
    take,
    take_of_each,
    without_duplicates,
    without_leaks,
)
from expertbank.errors import DataError
from expertbank.kinds import KINDS
from expertbank.records import Row

ROW = st.builds(
    Row,
    text=st.text(alphabet="aAb ", min_size=1, max_size=3),
    text_pair=st.none() | st.sampled_from(["x", "X ", "y"]),
    label=st.sampled_from(["0", "1", "2"]),
    group=st.lists(st.sampled_from([f"g={n}" for n in range(12)]), max_size=2).map(tuple),
)
ROWS = st.lists(ROW, min_size=1, max_size=40)
BY_LABEL = KINDS.get("classification").classes
LIGHT = settings(max_examples=60, deadline=None)


def _split(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]] | None:
    try:
        return split(rows, share, seed, classes=BY_LABEL)
    except DataError:
        return None


@LIGHT
@given(rows=ROWS, share=st.floats(0.05, 0.9), seed=st.integers(0, 5), data=st.data())
def test_the_order_of_rows_does_not_matter(
    rows: list[Row], share: float, seed: int, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    assert _split(rows, share, seed) == _split(shuffled, share, seed)


@LIGHT
@given(rows=ROWS, share=st.floats(0.05, 0.9), seed=st.integers(0, 5))
def test_no_group_no_copy_and_no_row_is_lost_torn_or_doubled(
    rows: list[Row], share: float, seed: int
) -> None:
    parts = _split(rows, share, seed)
    if parts is None:
        return
    rest, held = parts
    assert held
    assert sorted(row.digest for row in rest + held) == sorted({row.digest for row in rows})
    assert not {normalised_input(row) for row in rest} & {normalised_input(row) for row in held}
    groups = [{value for row in part for value in row.group} for part in parts]
    assert not groups[0] & groups[1]
    assert {row.label for row in held} <= {row.label for row in rest}
    assert without_leaks(rest, held) == rest


@LIGHT
@given(rows=ROWS)
def test_components_are_the_finest_parts_that_share_nothing(rows: list[Row]) -> None:
    parts = components(rows)
    keys = [{normalised_input(row) for row in part} | {g for row in part for g in row.group}
            for part in parts]  # fmt: skip
    assert sum(map(len, parts)) == len(rows)
    for index, one in enumerate(keys):
        assert all(not one & other for other in keys[index + 1 :])
    for part in parts:
        reached = [part[0]]
        for row in reached:
            links = {normalised_input(row), *row.group}
            reached += [
                other
                for other in part
                if links & {normalised_input(other), *other.group}
                and not any(other is known for known in reached)
            ]
        assert len(reached) == len(part)


@LIGHT
@given(rows=ROWS, limit=st.integers(0, 50), seed=st.integers(0, 5), data=st.data())
def test_a_subset_is_the_same_from_any_order_and_grows_with_its_limit(
    rows: list[Row], limit: int, seed: int, data: st.DataObject
) -> None:
    rows = without_duplicates(rows)
    part = take(rows, limit, seed)
    assert part == take(data.draw(st.permutations(rows)), limit, seed)
    assert len(part) == min(limit, len(rows))
    assert take(rows, limit + 1, seed)[:limit] == part


def _plain(number: int, **given: object) -> list[Row]:
    return [Row(f"text {n}", label=str(n % 2), **given) for n in range(number)]  # type: ignore[arg-type]


def test_the_share_is_met_and_another_seed_holds_out_other_rows() -> None:
    rows = _plain(500)
    rest, held = split(rows, 0.2, 0, classes=BY_LABEL)
    assert (len(rest), len(held)) == (400, 100)
    assert split(rows, 0.2, 1, classes=BY_LABEL)[1] != held


def test_the_smallest_group_goes_where_none_fits_the_share() -> None:
    rows = [Row(f"{g}{n}", label=str(n % 2), group=(g,)) for g in "abc" for n in range(10)]
    rows += [Row(f"d{n}", label=str(n % 2), group=("d",)) for n in range(8)]
    _, held = split(rows, 0.1, 0, classes=BY_LABEL)
    assert {row.group for row in held} == {("d",)}


def test_the_last_row_of_a_label_is_never_held_out() -> None:
    rows = [*_plain(40), Row("rare", label="rare")]
    for seed in range(20):
        rest, _ = split(rows, 0.5, seed, classes=BY_LABEL)
        assert "rare" in {row.label for row in rest}


def test_rows_of_one_single_group_cannot_be_split() -> None:
    with pytest.raises(
        DataError, match=r"data:1: 10 different rows with 2 labels cannot be split.*validation file"
    ):
        split(_plain(10, group=("one",)), 0.2, 0, classes=BY_LABEL)


def test_duplicates_hand_their_groups_on() -> None:
    one, two = Row("t", label="0", group=("a",)), Row("t", label="0", group=("b",))
    (kept,) = without_duplicates([one, two])
    assert kept.group == ("a", "b")


def test_copies_that_differ_in_case_and_spaces_are_leaks() -> None:
    held = [Row("Is it  so?", "A Passage", label="1")]
    train = [Row("is it so?", "a passage ", label="0"), Row("is it so?", label="0")]
    assert without_leaks(train, held) == train[1:]


def test_selection_rows_come_from_train_and_keep_groups_whole() -> None:
    train = [Row(f"t{n}", label=str(n % 2), group=(f"g{n // 4}",)) for n in range(200)]
    fit, selection = hold_out_for_selection(train, 0.1, 7, BY_LABEL)
    assert len(fit) + len(selection) == 200
    assert len(selection) == 20
    assert not {row.group for row in fit} & {row.group for row in selection}
    assert fit == take(fit, None, 7)


@pytest.mark.parametrize("kind", ["regression", "multiple_choice"])
def test_values_and_positions_are_no_classes_that_must_stay(kind: str) -> None:
    rows = [Row(f"t{n}", label=str(n)) for n in range(50)]
    kept, held = split(rows, 0.2, 0, classes=KINDS.get(kind).classes)
    assert (len(kept), len(held)) == (40, 10)
    assert len(hold_out_for_selection(rows, 0.1, 0, KINDS.get(kind).classes)[1]) == 5
    with pytest.raises(DataError, match="cannot be split"):
        split(rows, 0.2, 0, classes=BY_LABEL)


@pytest.mark.parametrize("seed", range(20))
def test_rows_without_any_label_give_way_to_the_only_ones_of_a_label(seed: int) -> None:
    kind = KINDS.get("multi_label")
    rows = [Row(f"calm {n}", label="[]") for n in range(300)]
    rows += [Row(f"harsh {n}", label='["threat"]') for n in range(2)]
    taken = take_of_each(rows, 16, seed, kind.classes)
    assert len(taken) == 16
    assert any(row.label == '["threat"]' for row in taken)
