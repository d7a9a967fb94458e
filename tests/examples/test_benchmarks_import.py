"""Every benchmark finds what it imports: none asks for a module or a name that is gone."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py")) + sorted((FOLDER / "others").glob("*.py"))
PACKAGES = ("adapters.composition", "litserve", "llama_cpp", "openai", "peft", "sklearn", "vllm")
"""What scripts need and an environment may lack; such a script is skipped there."""


def imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Every module that is imported, also within functions, with each name taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_finds_every_module_and_name_that_it_imports(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (FOLDER, script.parent):
        monkeypatch.syspath_prepend(str(folder))
    wanted = list(imports(ast.parse(script.read_text(encoding="utf-8"))))
    modules = {module for module, _ in wanted}
    # By a module of its own: a folder of tests has the name of package adapters.
    for package in (modules | {module.partition(".")[0] for module in modules}) & set(PACKAGES):
        pytest.importorskip(package)
    monkeypatch.setattr(sys, "argv", [script.name])
    if script.parent == FOLDER:  # its own top level runs, and with it what that adds to the path
        importlib.import_module(script.stem)
    for module, name in wanted:
        found = importlib.import_module(module)
        if name is None or hasattr(found, name):
            continue
        assert importlib.util.find_spec(f"{module}.{name}"), f"{module} has no {name}"
