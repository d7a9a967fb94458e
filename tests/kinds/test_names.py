"""Nothing outside a kind's own room asks for a kind by name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from expertbank.kinds import KINDS

ROOT = Path(__file__).parents[2]
CODE = [
    path
    for room in ("expertbank", "cli")
    for path in sorted((ROOT / room).rglob("*.py"))
    # Suites name one as an example; that is all that they may.
    if not {ROOT / "expertbank" / "kinds", ROOT / "expertbank" / "testing"} & set(path.parents)
]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_kind_is_named_in_code_outside_kinds(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = {
        node.value: node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value in KINDS.names()
    }
    assert not named
