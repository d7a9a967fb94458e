"""Rows that belong together are one cluster, however long the chain that links them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from expertbank.data.clusters import cluster_numbers, linked


@settings(max_examples=25, derandomize=True)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=2).map(tuple), max_size=12))
def test_rows_linked_by_any_value_are_one_cluster(groups) -> None:
    found = cluster_numbers(groups)
    numbers = range(len(groups)) if found is None else found.tolist()
    for one, other in zip(groups, numbers, strict=True):
        for again, place in zip(groups, numbers, strict=True):
            if set(one) & set(again):
                assert other == place
    if found is None:
        values = [value for group in groups for value in set(group)]
        assert len(values) == len(set(values))


@settings(max_examples=50, derandomize=True)
@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=2), max_size=12))
def test_clusters_are_numbered_in_order_of_first_appearance(values) -> None:
    numbers = linked(values).tolist()
    assert list(dict.fromkeys(numbers)) == list(range(len(set(numbers))))


def test_a_chain_is_one_cluster_and_bytes_are_not_the_text_they_spell() -> None:
    assert linked([("a",), ("b",), ("a", "c"), (), ("c", "b")]).tolist() == [0, 0, 0, 1, 0]
    assert linked([(b"a",), ("a",)]).tolist() == [0, 1]


def test_rows_without_links_have_no_clusters() -> None:
    assert cluster_numbers([]) is None
    assert cluster_numbers([(), ("a",), ()]) is None
    chained = cluster_numbers([("a",), (), ("a",)])
    assert chained is not None
    assert chained.tolist() == [0, 1, 0]
