"""What the pages tell one to type is what the program takes; and they can be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from expertbank_cli.app import app
from transcripts import ROOT, commands

PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"),
    "examples/serve/README.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
MADE = ("docs/commands.md", "docs/settings.md")
"""Pages made from the help: a line an option."""
LONGEST = 110
"""Words of a paragraph, of an item of a list, of a row of a table."""
FIGURES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "examples" / "benchmarks").rglob("*.md")
)


def _command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the options they give."""
    command: Any = typer.main.get_command(app)
    given: list[str] = []
    for word in words:
        if word == "--":
            break
        if word.startswith("--"):
            given.append(word.split("=")[0])
        elif word in getattr(command, "commands", {}):
            command = command.commands[word]
    return command, given


def _anchors(page: Path) -> set[str]:
    """What GitHub calls a page's headings in links."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md", *FIGURES])
def test_every_link_into_a_page_leads_to_a_heading_that_is_there(page: str) -> None:
    here = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", here.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = (here.parent / path).resolve() if path else here
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in _anchors(there), target


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_of_a_page_is_one_that_the_program_has(page: str) -> None:
    everywhere = {name for one in typer.main.get_command(app).params for name in one.opts}
    for words in commands(page):
        named, given = _command_of(words)
        assert named.name != "main", words
        known = {name for one in named.params for name in one.opts} | everywhere | {"--help"}
        assert set(given) <= known, f"{page}: expertbank {' '.join(words)}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.startswith("docs/") and page not in MADE]
)
def test_no_paragraph_of_a_page_is_a_wall(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for block in re.split(r"\n\s*\n", text):
        for part in re.split(r"\n(?=[-*|] ?|\d+\. )", block):
            assert len(part.split()) <= LONGEST, part
