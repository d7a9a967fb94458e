"""``show``: what a reader asks first, and with ``--full`` or ``--json`` all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command_line import done

NAMES = ("mood", "router@2")


@pytest.mark.parametrize("name", NAMES)
def test_a_dozen_lines_say_what_it_is_and_where_the_rest_is(made_bank: Path, name: str) -> None:
    home = made_bank / "bank"
    answer = done("--home", home, "show", name)
    lines = answer.out.splitlines()
    assert len(lines) <= 14
    assert lines[-1].split(maxsplit=1) == ["more", f"expertbank --home {home} show {name} --full"]
    assert "None" not in answer.out
    document = done("--home", home, "--json", "show", name).document
    assert document["expert" if name == "mood" else "router"]["digest"] in answer.out


def test_an_expert_is_shown_with_its_quality_and_what_it_was_trained_on(made_bank: Path) -> None:
    shown = done("--home", made_bank / "bank", "show", "mood").out
    facts = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert "2 labels: bad, good" in facts["kind"]
    assert "validation rows (majority class" in facts["accuracy"]
    assert "since router@" in facts["routed"]
    assert str(made_bank / "mood.csv") in facts["data"]
    assert "text: text, label: label" in facts["columns"]


def test_a_router_is_shown_with_its_tasks_and_whether_it_answers(made_bank: Path) -> None:
    home = made_bank / "bank"
    shown = done("--home", home, "show", "router@2").out
    assert shown.splitlines()[0].split() == ["router", "router@2", "(active)"]
    assert "3: " in next(line for line in shown.splitlines() if line.startswith("tasks"))
    assert "(active)" not in done("--home", home, "show", "router@1").out


@pytest.mark.parametrize("name", NAMES)
def test_full_is_the_json_document_as_yaml(made_bank: Path, name: str) -> None:
    home = made_bank / "bank"
    document = done("--home", home, "--json", "show", name).document
    assert yaml.safe_load(done("--home", home, "show", name, "--full").out) == document
