"""Short spans of encoded rows: stretches of the texts, with the special tokens where they were."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from expertbank.data.spans import span_of
from expertbank.records import EncodedRow

CLS, SEP = 1, 2
texts = st.lists(st.integers(10, 99), min_size=1, max_size=60)


def pair(first: list[int], second: list[int]) -> EncodedRow:
    tokens = (CLS, *first, SEP, *second, SEP)
    types = (0,) * (len(first) + 2) + (1,) * (len(second) + 1)
    return EncodedRow((tokens,), (types,), second=(len(first) + 2,))


@given(texts, texts, st.integers(1, 80), st.integers(0, 9))
def test_a_span_is_one_stretch_of_each_text_and_as_short_as_asked(
    first: list[int], second: list[int], tokens: int, seed: int
) -> None:
    row = pair(first, second)
    cut = span_of(row, tokens, {CLS, SEP}, Random(seed))
    ((head, *body, tail),) = cut.sequences
    assert (head, tail) == (CLS, SEP)
    middle = body.index(SEP)
    for part, text in ((body[:middle], first), (body[middle + 1 :], second)):
        assert part
        assert any(text[at : at + len(part)] == part for at in range(len(text)))
    assert len(cut.sequences[0]) == len(cut.type_ids[0])
    assert cut.type_ids[0] == (0,) * (middle + 2) + (1,) * (len(body) - middle)
    assert cut.second == (middle + 2,)
    assert cut.length <= max(tokens, 5)
    assert cut.length == min(row.length, max(tokens, 5))


def test_the_longer_text_is_cut_first() -> None:
    row = pair([10] * 4, [20] * 40)
    cut = span_of(row, 12, {CLS, SEP}, Random(0))
    assert cut.sequences[0].count(10) == 4
    assert cut.sequences[0].count(20) == 5


def test_every_choice_is_cut_and_a_row_without_special_tokens_too() -> None:
    row = EncodedRow(((5,) * 30, (6,) * 8), ((0,) * 30, (0,) * 8))
    cut = span_of(row, 10, set(), Random(0))
    assert [len(sequence) for sequence in cut.sequences] == [10, 8]


def test_what_choices_share_is_cut_alike() -> None:
    text = tuple(range(100, 140))
    row = EncodedRow(
        tuple((CLS, *text, SEP, choice, choice, SEP) for choice in (10, 11, 12)), ((0,) * 45,) * 3
    )
    cut = span_of(row, 12, {CLS, SEP}, Random(3))
    stretches = {sequence[1 : sequence.index(SEP)] for sequence in cut.sequences}
    assert len(stretches) == 1


def test_half_of_the_spans_begin_where_their_text_does() -> None:
    row = EncodedRow((tuple(range(10, 70)),), ((0,) * 60,))
    random = Random(0)
    firsts = [span_of(row, 8, set(), random).sequences[0][0] for _ in range(400)]
    assert 160 < firsts.count(10) < 240
    assert len(set(firsts)) > 40
