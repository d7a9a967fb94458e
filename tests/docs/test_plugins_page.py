"""The page for authors of plugins shows the files that the tests run, and names what there is."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from transcripts import ROOT

from expertbank.plugins import GROUPS, imported

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
SAMPLE = ROOT / "tests" / "plugins" / "sample"
FILES = [path for path in sorted(SAMPLE.rglob("*.*")) if path.suffix in {".py", ".toml"}]


@pytest.mark.parametrize(
    "name", [str(path.relative_to(SAMPLE)) for path in FILES if path.name != "__init__.py"]
)
def test_every_file_of_the_sample_is_shown_as_it_is(name: str) -> None:
    shown = re.search(rf"<!-- file: {re.escape(name)} -->\n```\w+\n(.*?)```\n", PAGE, re.DOTALL)
    assert shown, f"docs/plugins.md does not show {name}"
    assert shown[1] == (SAMPLE / name).read_text(encoding="utf-8")


def test_the_conformance_suites_run_as_the_page_says(tmp_path: Path) -> None:
    block = PAGE.split("<!-- tests -->\n```python\n")[1].split("```")[0]
    (tmp_path / "test_mine.py").write_text(block, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SAMPLE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_the_page_says_can_be_added_is_what_there_is() -> None:
    table = [re.findall(r"`(.+?)`", line) for line in PAGE.split("\n## ")[0].splitlines()]
    rows = [row for row in table if len(row) == 3]
    assert [group for _, _, group in rows] == list(GROUPS)
    for interface, plugins, group in rows:
        for name in (interface, plugins):
            module, _, attribute = name.rpartition(".")
            assert getattr(import_module(module), attribute)
        module, _, attribute = plugins.rpartition(".")
        assert imported(f"{module}:{attribute}") is imported(GROUPS[group])


def test_every_import_of_the_sample_is_a_public_name() -> None:
    for path in FILES:
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                    "expertbank"
                ):
                    room = import_module(node.module or "")
                    public = getattr(room, "__all__", dir(room))
                    assert {alias.name for alias in node.names} <= set(public)
