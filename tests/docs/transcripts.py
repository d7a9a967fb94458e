"""Reading console transcripts, and comparing what they show without their figures."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REASON = re.compile(r"(?P<verdict>lost|inconclusive) +(?P<task>\w+): ")
SAID = re.compile(
    r"(identical|preserved|inconclusive|lost): |All expert weights are bit-identical\."
)
"""The report's verdict in words, which rows decide."""
VERDICT = re.compile(r" *(?P<task>\w+)@\d+ +(?P<verdict>lost|inconclusive) ")

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Step:
    """One command and what it printed."""

    command: str
    output: tuple[str, ...]

    @property
    def shape(self) -> tuple[str, ...]:
        """The output with every figure, digest and path replaced, rules and blanks left out.

        Reasons are left out too: rows decide for which tasks there are any, see ``reasons``.
        """
        lines = (_plain(line) for line in self.output)
        return tuple(line for line in lines if line)

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Task and verdict of every reason that stands under a report's table."""
        found = (REASON.match(line) for line in self.output)
        return sorted((one["task"], one["verdict"]) for one in found if one)

    @property
    def unproven(self) -> list[tuple[str, str]]:
        """Task and verdict of every row of a report's table whose verdict asks for a reason."""
        found = (VERDICT.match(line) for line in self.output)
        return sorted((one["task"], one["verdict"]) for one in found if one)


def steps(text: str) -> list[Step]:
    """Commands after ``$ `` and the lines that follow each."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line.rstrip())
    return [Step(command, tuple(output)) for command, output in found]


def console_block(marker: str, page: str) -> str:
    """The console block that follows ``<!-- marker -->`` in a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    match = re.search(rf"<!-- {marker} -->\n```console\n(.*?)```", text, re.DOTALL)
    assert match, f"{page} has no block {marker!r}"
    return match.group(1)


def shown_steps(page: str) -> list[Step]:
    """What a page's console blocks show, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [step for block in blocks for step in steps(block)]


def shown_files(page: str) -> dict[str, str]:
    """Name to content of the files that a page shows, each after ``<!-- file: NAME -->``."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return dict(re.findall(r"<!-- file: (.+?) -->\n```\w*\n(.*?)```", text, re.DOTALL))


def commands(page: str) -> list[list[str]]:
    """The words of every ``expertbank`` command in a page's console blocks, in order."""
    return [
        [word for word in shlex.split(step.command, comments=True) if word != "&"][1:]
        for step in shown_steps(page)
        if step.command.startswith("expertbank")
    ]


def _plain(line: str) -> str:
    if not line.strip(" ─━-"):
        return ""
    cells = re.split(r"\s{2,}", line.strip())
    name = cells[0]
    if REASON.match(line):
        return ""
    if SAID.match(line):
        return "said"
    if len(cells) == 2 and re.fullmatch(r"[a-z][a-z ]+", name):
        return name
    # Table rows: how many cells there are, not what is in them; headings stay as they are.
    if any(re.search(r"\d", cell) for cell in cells):
        return f"row of {len(cells)}"
    return " | ".join(cells)
