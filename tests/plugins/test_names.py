"""Nothing outside its own room asks for a kind, a gate or a family by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from expertbank.backbones.families import FAMILIES
from expertbank.kinds import KINDS
from expertbank.routing.gates import GATES

ROOT = Path(__file__).parents[2]
OWN = {
    # The defaults are names that a user may give as well.
    "gate": (GATES.own, ("expertbank/routing/gates", "expertbank/config.py")),
    # Digests of expertbank 0.1 hold what its families were then, whatever they become.
    "family": (FAMILIES.own, ("expertbank/backbones/families.py", "expertbank/**/identity_v1.py")),
    "kind": (KINDS.own, ("expertbank/kinds",)),
}
"""Names, and where they may stand. The scheme of our own store is a word of every day: ``file``."""
CODE = [
    path
    for room in ("expertbank", "cli")
    for path in sorted((ROOT / room).rglob("*.py"))
    if path.parent.name != "testing"  # its banks hold rows, and rows hold names
]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_named_outside_its_own_room(path: Path) -> None:
    own = path.relative_to(ROOT)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    words = {node.value: node.lineno for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for names, rooms in OWN.values():
        at_home = any(own.match(room) or Path(room) in own.parents for room in rooms)
        named = {word: line for word, line in words.items() if word in names}
        assert at_home or not named
