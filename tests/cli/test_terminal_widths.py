"""What is shown fits the terminal, and what is there to be copied is whole."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from command_line import done, write_task
from expertbank_cli.render import Table, print_table
from rich.console import Console

pytestmark = pytest.mark.slow

if os.name == "posix":
    from terminals import on_a_terminal
else:
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

LONG = "customer_tickets_of_northern_region"
TABLES = (
    ["list"],
    ["history"],
    ["tasks"],
    ["alias"],
    ["forgetting-report"],
    ["doctor"],
)
WIDTHS = (20, 80, 40, 120)


@pytest.fixture(scope="module")
def named(made_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank with a task of a long name."""
    folder = tmp_path_factory.mktemp("named")
    data = write_task(folder / "d.csv", "mood", 60)
    reference = done("--home", made_bank / "bank", "--json", "show", "mood").document["backbone"]
    words = ["add", "--data", data, "--epochs", 1, "--backbone", reference["reference"]]
    done("--home", folder / "bank", *words, "--task", LONG)
    done("--home", folder / "bank", *words, "--task", "short", "--retrain-router")
    return folder / "bank"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_names_digests_and_dates_are_whole(named: Path, columns: int) -> None:
    listed = done("--home", named, "--json", "list").document
    code, shown = on_a_terminal("--home", named, "list", columns=columns)
    assert code == 0
    assert "…" not in shown
    for record in (*listed["experts"], *listed["routers"]):
        name = record.get("id") or f"router@{record['version']}"
        moment = record["created_at"][:19].replace("T", " ")
        (line,) = [line for line in shown.splitlines() if re.search(rf"\b{name}\b", line)]
        rest = shown[shown.index(line) :]
        assert record["digest"][:12] in rest
        assert moment in rest
        if columns == 120:
            assert record["digest"][:12] in line
            assert moment in line


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        pytest.param(words, columns, id=f"{' '.join(words)} {columns}")
        for place, words in enumerate(TABLES)
        for columns in (WIDTHS[place % 2 :: 2] if place else WIDTHS)
    ],
)
def test_no_table_cuts_a_value_at_any_width(words: list[str], columns: int, named: Path) -> None:
    code, shown = on_a_terminal("--home", named, *words, columns=columns)
    assert code == 0
    assert "…" not in shown
    rows = [line for line in shown.splitlines() if "─" in line]
    assert all(len(line) <= columns for line in rows)


def test_where_columns_are_left_out_their_names_are_told(named: Path) -> None:
    wide, narrow = (on_a_terminal("--home", named, "alias", columns=n)[1] for n in (120, 40))
    assert "moves" in wide.splitlines()[0]
    assert "(not shown at this width: moves)" in narrow


def test_a_narrow_terminal_gets_a_line_for_each_value(named: Path) -> None:
    shown = on_a_terminal("--home", named, "list", columns=40)[1]
    assert f"expert: {LONG}@1\n" in shown
    assert re.search(r"^digest: [0-9a-f]{12}$", shown, re.MULTILINE)
    assert "params: " in shown, "nothing is left out"


def test_without_a_terminal_every_column_is_there_on_one_line_a_row(named: Path) -> None:
    lines = done("--home", named, "list").out.splitlines()
    (row,) = [line for line in lines if line.startswith(f"{LONG}@1")]
    assert len(row.split()) == 10  # the size and the date are two words each


def test_columns_are_kept_to_without_a_terminal_too(
    named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in TABLES:
        shown = done("--home", named, *words).out.splitlines()
        assert all(len(line) <= 80 for line in shown if "─" in line)
    assert "(not shown at this width: " in "".join(done("--home", named, "list").out)


def test_a_narrow_report_keeps_what_matters_most(named: Path) -> None:
    shown = on_a_terminal("--home", named, "forgetting-report", columns=95)[1]
    assert "provable margin" in re.sub(r"\s+", " ", shown[shown.index("(not shown") :])
    for heading in ("verdict", "beaten", "change"):
        assert heading in shown[: shown.index("(not shown")]


def test_an_event_takes_a_line_at_80_columns_and_names_a_thing_once(named: Path) -> None:
    shown = on_a_terminal("--home", named, "history", columns=80)[1]
    (line,) = [line for line in shown.splitlines() if " short@1 added" in line]
    assert line.rstrip().endswith(" parameters")
    assert line.count("short") == 1


_ANSWERED = ({"COLUMNS": "0"}, {"TERM": "dumb"})
"""Where a bar of progress is drawn too: no room for it, and no way to."""


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "0"},
        {"COLUMNS": "1"},
        {"COLUMNS": "-5", "LINES": "0"},
        {"COLUMNS": "²", "LINES": "²"},
        {"TERM": "dumb"},
        {"TERM": ""},
        {"TERM": "no-such-terminal"},
        {"FORCE_COLOR": "1"},
    ],
    ids=str,
)
def test_an_odd_terminal_changes_nothing_but_looks(
    environment: dict[str, str], named: Path
) -> None:
    answered = [["predict", "film"]] if environment in _ANSWERED else []
    for words in (["list"], ["--help"], *answered):
        code, shown = on_a_terminal("--home", named, *words, columns=80, environment=environment)
        assert code == 0
        assert "Traceback" not in shown
    assert on_a_terminal("--home", named, "list", columns=0)[0] == 0


def test_answers_go_to_their_file_while_progress_is_on_the_terminal(
    named: Path, tmp_path: Path
) -> None:
    words = ["--home", named, "--json", "predict", "film", "plot"]
    code, shown = on_a_terminal(*words, columns=80, out=tmp_path / "out.jsonl")
    assert code == 0
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 2
    assert '"label"' not in shown


def test_columns_give_way_in_their_order_and_words_before_them() -> None:
    table = Table(("name", "note", "a", "b"), wrapped=("note",), dropped=("b", "a"))
    natural = {"name": 10, "note": 60, "a": 5, "b": 5}
    assert table.shown_in(89, natural) == ("name", "note", "a", "b")
    assert table.shown_in(53, natural) == ("name", "note", "a", "b")
    assert table.shown_in(52, natural) == ("name", "note", "a")
    assert table.shown_in(44, natural) == ("name", "note")
    assert table.shown_in(36, natural) == ()


def test_a_table_of_more_rows_than_are_held_comes_line_by_line_and_whole() -> None:
    out = io.StringIO()
    rows = ((f"name-{n}", "x" * 40) for n in range(1000))
    print_table(Console(file=out, width=160), Table(("name", "text")), rows)
    lines = out.getvalue().splitlines()
    assert len(lines) == 1001
    assert lines[-1] == f"name-999  {'x' * 40}"
