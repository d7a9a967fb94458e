"""Reading console transcripts, and comparing what they show without their figures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    """One command and what it printed."""

    command: str
    output: tuple[str, ...]

    @property
    def shape(self) -> tuple[str, ...]:
        """The output with every figure, digest and path replaced, rules and blanks left out."""
        lines = (_plain(line) for line in self.output)
        return tuple(line for line in lines if line)


def steps(text: str) -> list[Step]:
    """Commands after ``$ `` and the lines that follow each."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line.rstrip())
    return [Step(command, tuple(output)) for command, output in found]


def console_block(marker: str) -> str:
    """The console block that follows ``<!-- marker -->`` in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    match = re.search(rf"<!-- {marker} -->\n```console\n(.*?)```", text, re.DOTALL)
    assert match, f"the README has no block {marker!r}"
    return match.group(1)


def _plain(line: str) -> str:
    if not line.strip(" ─━-"):
        return ""
    cells = re.split(r"\s{2,}", line.strip())
    name = cells[0]
    # A reason stands under a table for each task that has one, which rows and figures decide.
    if re.match(r"(lost|inconclusive|preserved) +\w+: ", line):
        return ""
    if len(cells) == 2 and re.fullmatch(r"[a-z][a-z ]+", name):
        return name
    # Table rows: how many cells there are, not what is in them; headings stay as they are.
    if any(re.search(r"\d", cell) for cell in cells):
        return f"row of {len(cells)}"
    return " | ".join(cells)
