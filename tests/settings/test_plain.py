"""Plain values are read by the types of the dataclass that takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

import pytest

from expertbank.errors import InputError
from expertbank.plain import plain, read


@dataclass(frozen=True)
class Leaf:
    name: str
    size: float = 1.0


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...] = ()
    best: Leaf = field(default_factory=lambda: Leaf("none"))
    spare: Leaf | None = None
    words: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    gaps: tuple[str | None, ...] = ()
    count: int = 0
    sure: bool = False


def test_values_of_every_type_are_read() -> None:
    value = {
        "leaves": [{"name": "a"}, {"name": "b", "size": "5e-3"}],
        "best": {"name": "c", "size": 2},
        "words": "one",
        "pairs": {"a": "b"},
        "gaps": [None, "x"],
        "count": 3,
        "sure": True,
    }
    leaves = (Leaf("a"), Leaf("b", 0.005))
    expected = Tree(leaves, Leaf("c", 2.0), None, ("one",), (("a", "b"),), (None, "x"), 3, True)
    assert read(Tree, value, "here") == expected


def test_null_and_empty_text_are_as_if_they_were_not_there() -> None:
    assert read(Tree, {"best": None, "count": None, "words": ""}, "here") == Tree()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "here: expected keys and values, got list"),
        ({"levaes": []}, "here: unknown key 'levaes'; did you mean leaves"),
        ({"leaves": {"name": "a"}}, "here: leaves must be a list"),
        ({"leaves": [{}]}, r"here: leaves\[0\]: name is missing"),
        (
            {"leaves": [{"name": "a", "size": True}]},
            r"leaves\[0\]: size must be a number, got True",
        ),
        ({"best": {"name": "a", "size": "1e400000000000"}}, None),
        ({"best": {"name": "a", "size": 10**400}}, "size must be a number"),
        ({"words": [1]}, r"here: words\[0\] must be text, got 1 \(quote it\)"),
        ({"pairs": {"a": 1}}, "here: pairs must map text to text"),
        ({"gaps": "x"}, "here: gaps must be a list"),
        ({"count": True}, "here: count must be a whole number, got True"),
        ({"sure": "yes"}, "here: sure must be true or false, got 'yes'"),
    ],
)
def test_another_type_is_refused_with_its_place(value: object, message: str | None) -> None:
    if message is None:
        assert read(Tree, value, "here").best.size == float("inf")
        return
    with pytest.raises(InputError, match=message):
        read(Tree, value, "here")


def test_a_value_that_unfolds_without_end_does_not_fill_the_message() -> None:
    bomb: list[object] = ["x"] * 9
    for _ in range(12):
        bomb = [bomb] * 9
    with pytest.raises(InputError) as caught:
        read(Tree, {"count": bomb}, "here")
    assert len(str(caught.value)) < 1000


def test_tuples_become_lists_all_the_way_down() -> None:
    assert plain({"a": (1, ("b",)), "c": [()]}) == {"a": [1, ["b"]], "c": [[]]}


def test_records_become_mappings_all_the_way_down() -> None:
    tree = plain(MappingProxyType({"tree": Tree(leaves=(Leaf("a"),), words=("x",))}))["tree"]
    assert (tree["leaves"], tree["words"]) == ([{"name": "a", "size": 1.0}], ["x"])
    assert (tree["best"], tree["spare"]) == ({"name": "none", "size": 1.0}, None)
