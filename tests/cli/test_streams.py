"""Where words go: results to stdout, all else to stderr, and nothing that drives a terminal."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import warm
from command_line import call, done, task_rows, write_csv, write_task
from expertbank_cli import progress
from expertbank_cli.main import app
from expertbank_cli.render import TONES
from expertbank_cli.words import split_globals
from places import working_in
from terminals import on_a_terminal

READING = (["list"], ["history"], ["verify"], ["alias"], ["tasks"], ["show", "mood"])


def test_global_options_may_stand_before_and_after_the_command(bank: Path) -> None:
    expected = done("--home", bank, "--json", "list").out
    assert done("list", "--home", bank, "--json").out == expected
    assert done("--json", "list", f"--home={bank}").out == expected
    assert (
        done("alias", "--json", "--home", bank).out == done("--home", bank, "--json", "alias").out
    )


def test_after_two_dashes_words_that_look_like_global_options_are_text(bank: Path) -> None:
    lines = done("--home", bank, "--json", "predict", "--", "--json", "--quiet").lines
    assert [line["index"] for line in lines] == [0, 1]


def test_the_home_is_taken_from_the_environment_unless_it_is_named(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPERTBANK_HOME", str(bank))
    assert len(done("list", "--json").document["experts"]) == 3
    assert call("list", "--home", tmp_path / "other").code == 10


def test_progress_and_remarks_go_to_stderr_and_quiet_ends_them(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0)
    data = write_task(tmp_path / "more.csv", "mood", 60, seed=5)
    words = ["--home", bank, "add", "--data", data, "--epochs", "1"]
    loud = done(*words, "--task", "loud")
    assert "training loud" in loud.err
    assert "retrain-router" in loud.err
    assert "training" not in loud.out
    quiet = done(*words, "--task", "quiet", "--quiet")
    assert quiet.err == ""
    assert "quiet@1" in quiet.out
    silent = done(*words, "--task", "silent", "--quiet", "--json")
    assert silent.err == ""
    assert silent.document["expert"]["id"] == "silent@1"


def test_a_real_process_without_a_terminal_writes_no_escape_codes(
    bank: Path, tmp_path: Path
) -> None:
    for words in READING:
        ended = subprocess.run(
            [*warm.command(), "--home", str(bank), *words],
            capture_output=True,
            timeout=120,
            cwd=tmp_path,
            check=True,
        )
        assert ended.stdout
        assert b"\x1b" not in ended.stdout + ended.stderr


def test_no_color_is_honoured_on_a_terminal(bank: Path) -> None:
    environment = {"TERM": "xterm-256color", "NO_COLOR": "1"}
    code, plain = on_a_terminal("--home", bank, "list", columns=120, environment=environment)
    assert code == 0
    assert "mood@1" in plain
    # Bold stays: NO_COLOR is about colour.
    assert "\x1b[3" not in plain.replace("\x1b[39m", "")


def test_colours_say_what_the_words_say_and_never_more(bank: Path) -> None:
    words = ("--quiet", "--home", bank, "forgetting-report")
    colours = {"TERM": "xterm-256color", "NO_COLOR": ""}
    code, shown = on_a_terminal(*words, columns=160, environment=colours)
    assert code == 0
    coloured = set(re.findall(r"\x1b\[(?:1;)?3[123]m([^\x1b]+)\x1b", shown))
    named = {re.split(":", found)[0].strip() for found in coloured}
    assert named & {"identical", "preserved", "inconclusive"}
    assert named <= TONES.keys()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    without = on_a_terminal(*words, columns=160)[1]
    assert plain == re.sub(r"\x1b\[[0-9;]*m", "", without)


def _commands() -> list[tuple[str, str]]:
    group = typer.main.get_command(app)
    found = []

    def walk(command: object, name: str) -> None:
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append((name, str(command.callback.__doc__)))  # type: ignore[attr-defined]
            return
        for key, value in inner.items():
            walk(value, f"{name} {key}".strip())

    walk(group, "")
    return found


@pytest.mark.parametrize(("name", "doc"), _commands())
def test_the_example_in_the_help_of_every_command_parses(name: str, doc: str) -> None:
    lines = [line.strip() for line in doc.splitlines() if line.strip().startswith("Example:")]
    assert lines, f"{name} shows no example"
    program, *words = shlex.split(lines[0].removeprefix("Example:"))
    assert program == "expertbank"
    group = typer.main.get_command(app)
    front, rest = split_globals(words)
    context = group.make_context("expertbank", [*front, *rest])
    asked = []
    while getattr(group, "commands", None):
        rest = [*context._protected_args, *context.args]
        asked.append(rest[0])
        _, group, rest = group.resolve_command(context, rest)  # type: ignore[attr-defined]
        context = group.make_context(asked[-1], rest, parent=context)
    assert " ".join(asked) == name


@pytest.mark.parametrize("name", [name for name, _ in _commands()])
def test_help_of_every_command_names_its_example(name: str) -> None:
    answer = done(*name.split(), "--help")
    assert "Example: expertbank" in " ".join(answer.out.split())


NASTY = ("\x1b[31mred", "\u202eright", ":warning:")


def _shows_only_tame_text(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_labels_cannot_drive_the_terminal(bank: Path, tmp_path: Path) -> None:
    rows = [(text, NASTY[place % 3]) for place, (text, _) in enumerate(task_rows("mood"))]
    data = write_csv(tmp_path / "nasty.csv", list(rows), ("text", "label"))
    done("--home", bank, "add", "--task", "nasty", "--data", data, "--epochs", 1)
    shown = done("--home", bank, "show", "nasty").out
    assert _shows_only_tame_text(shown)
    assert r"\x1b[31mred" in shown
    assert r"\u202eright" in shown
    assert ":warning:" in shown
    assert _shows_only_tame_text(done("--home", bank, "show", "nasty", "--full").out)
    told = done("--home", bank, "predict", "good film", "--task", "nasty", "vote").out
    assert _shows_only_tame_text(told)
    machine = done("--home", bank, "--json", "predict", "film", "--task", "nasty").lines
    assert set(machine[0]["scores"]) == set(NASTY)


def test_an_error_that_quotes_columns_and_paths_cannot_drive_the_terminal(
    bank: Path, tmp_path: Path
) -> None:
    data = write_csv(tmp_path / "columns.csv", [("a", "b")], ("te\x1b[2Jxt", "la\u202ebel"))
    answer = call("--home", bank, "add", "--task", "odd", "--data", data)
    assert answer.code == 2
    assert _shows_only_tame_text(answer.err)
    assert r"\x1b[2J" in answer.err


def test_a_reader_that_goes_away_gets_no_traceback(bank: Path) -> None:
    process = subprocess.Popen(
        [*warm.command(), "--home", str(bank), "history"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert b"Traceback" not in errors


def test_a_backbone_named_by_a_relative_path_is_found_from_any_folder(
    backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    data = write_task(tmp_path / "mood.csv", "mood", 60)
    with working_in(backbone.parent):
        done("--home", tmp_path / "b", "init", "--backbone", backbone.name)
    with working_in(tmp_path):
        done("--home", "b", "add", "--task", "mood", "--data", data.name, "--epochs", 1)
    with working_in(tmp_path / "elsewhere"):
        done("--home", "../b", "retrain-router")
        report = done("--home", "../b", "--json", "forgetting-report", "--verify").document
        assert report["verification"]["mood"]["unverifiable"] == 0
        assert done("--home", "../b", "--json", "predict", "film").lines[0]["task"] == "mood"


def test_an_empty_second_text_means_none_as_in_a_file(bank: Path) -> None:
    def scores(*words: object, stdin: bytes = b"") -> object:
        return done("--home", bank, "--json", "predict", *words, stdin=stdin).lines[0]["scores"]

    plain = scores("good film", "--task", "mood")
    assert scores("good film", "--text-pair", "", "--task", "mood") == plain
    row = json.dumps({"text": "good film", "text_pair": " "}).encode()
    assert scores("--file", "-", "--task", "mood", stdin=row) == plain
    assert scores("good film", "--text-pair", "bad", "--task", "mood") != plain
