"""The right choice may be named by a number or a letter, as long as the letter is one."""

from __future__ import annotations

import pytest

from expertbank.errors import DataError
from expertbank.kinds import LabelRules, RawLabel
from expertbank.kinds.choices import position_of


def named(raw: str) -> RawLabel:
    return RawLabel(raw, LabelRules(), tuple(f"choice {n}" for n in range(40)), (), "file:1")


@pytest.mark.parametrize(("raw", "place"), [("A", "0"), ("Z", "25"), ("39", "39"), ("7", "7")])
def test_a_number_or_a_capital_letter_names_a_place(raw: str, place: str) -> None:
    assert position_of(named(raw)) == place


@pytest.mark.parametrize("raw", ["a", "[", "40"])
def test_what_stands_behind_the_letters_names_none(raw: str) -> None:
    with pytest.raises(DataError, match="names none of"):
        position_of(named(raw))
