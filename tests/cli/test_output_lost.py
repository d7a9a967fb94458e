"""What was committed stays done, whatever becomes of the words about it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import warm
from command_line import COMMAND, content, done, write_csv, write_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="descriptors as POSIX has them"),
]

READING = (["list"], ["--json", "history"], ["show", "mood"], ["predict", "film"], ["verify"])
READING_MORE = (["--json", "predict", "film"], ["tasks"], ["--help"], ["--version"], ["doctor"])
CHANGING = (
    ["alias", "mine", "router@1"],
    ["--json", "retrain-router", "--kind", "ridge"],
    ["remove", "--task", "mood", "--yes"],
    ["gc", "--yes", "--grace", "0"],
    ["db", "upgrade"],
    ["db", "backup", "copy.db"],
    ["export", "shipped"],
    ["init"],
)


def shell(words: str, *, home: Path, folder: Path, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``words``, where a lone ``@`` is the command.

    Closed streams and encodings matter when an interpreter starts, so there one does.
    """
    start = COMMAND if environment or "&-" in words else warm.command()
    command = f"{' '.join(start)} --home {home}"
    ended = subprocess.run(
        ["bash", "-c", words.replace("@ ", f"{command} ")],
        capture_output=True,
        timeout=120,
        cwd=folder,
        check=False,
        env={**os.environ, **environment},
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def _each_way_once(
    commands: tuple[list[str], ...], ways: tuple[str, ...], long: set[str]
) -> list[Any]:
    """Every command with every way; of those with a word in ``long``, one way each, in turn."""
    turn = cycle(ways)
    return [
        pytest.param(words, way, id=f"{' '.join(words)} {way}")
        for words in commands
        for way in ([next(turn)] if long & set(words) else ways)
    ]


@pytest.mark.parametrize(
    ("words", "way"),
    _each_way_once(
        READING + READING_MORE,
        (">/dev/full", ">&- <&-"),
        {word for words in READING_MORE for word in words} | {"history", "verify"},
    ),
)
def test_a_reading_command_that_cannot_be_heard_did_not_succeed(
    words: list[str], way: str, made_bank: Path, tmp_path: Path
) -> None:
    code, _, err = shell(f"@ {' '.join(words)} {way}", home=made_bank / "bank", folder=tmp_path)
    assert code == 1
    (line,) = err.splitlines()[-1:]
    assert "cannot write standard output" in line
    assert "Traceback" not in err
    assert "Exception ignored" not in err


@pytest.mark.parametrize(
    ("words", "way"),
    _each_way_once(
        CHANGING,
        (">/dev/full", ">&-", ">&- 2>&- <&-"),
        {word for words in CHANGING[1:] for word in words},
    ),
)
def test_a_change_that_was_committed_is_a_success_though_it_cannot_be_shown(
    words: list[str], way: str, bank: Path, tmp_path: Path
) -> None:
    code, _, err = shell(f"@ {' '.join(words)} {way}", home=bank, folder=tmp_path)
    assert code == 0
    if "2>" not in way:
        assert "cannot write standard output" in err
        assert "; done: " in err
        assert " history" in err


def test_an_add_to_closed_streams_adds_and_touches_no_file_but_its_own(
    bank: Path, tmp_path: Path
) -> None:
    """A closed descriptor is not given to the database, for a library's words to end up in it."""
    data = write_task(tmp_path / "more.csv", "mood", 60, seed=5)
    words = f"@ add --task more --data {data} --epochs 1 --retrain-router >&- 2>&- <&-"
    assert shell(words, home=bank, folder=tmp_path)[0] == 0
    assert done("--home", bank, "--json", "show", "more").document["expert"]["id"] == "more@1"
    assert done("--home", bank, "--json", "verify").document["ok"]


@pytest.mark.parametrize("way", ["<&-", "2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_stream_that_is_not_used_may_be_missing(
    way: str, made_bank: Path, tmp_path: Path
) -> None:
    code, out, _ = shell(f"@ --json list {way}", home=made_bank / "bank", folder=tmp_path)
    assert code == 0
    assert len(json.loads(out)["experts"]) == 3


def test_a_closed_standard_input_is_told_where_it_is_needed(bank: Path, tmp_path: Path) -> None:
    code, _, err = shell("@ remove --task mood <&-", home=bank, folder=tmp_path)
    assert (code, "--yes" in err) == (2, True)
    code, _, err = shell("@ predict - <&-", home=bank, folder=tmp_path)
    assert (code, "cannot read standard input" in err) == (2, True)


def test_a_reader_that_left_is_no_success_for_reading_and_not_worth_a_word(
    made_bank: Path, tmp_path: Path
) -> None:
    left = "; exit ${PIPESTATUS[0]}"
    words = f"(sleep 0.1; @ history) | true{left}"
    assert shell(words, home=made_bank / "bank", folder=tmp_path)[::2] == (1, "")


def test_a_full_pipe_that_does_not_block_gets_everything(made_bank: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "good film"}\n' * 3000)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with subprocess.Popen(
        [*warm.command(), "--home", made_bank / "bank", "--json", "predict", "--file", rows],
        stdout=writing,
    ) as process:
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            lines = file.read().splitlines()
        assert process.wait(timeout=120) == 0
    assert [json.loads(line)["index"] for line in lines] == list(range(3000))


ENCODINGS = (
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii:strict", "PYTHONUNBUFFERED": "1"},
    {"PYTHONIOENCODING": "utf-8"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


@pytest.fixture(scope="session")
def arabic(made_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank whose newest task has labels that few encodings carry."""
    folder = tmp_path_factory.mktemp("arabic")
    rows = [(f"film {n} good", "نعم \U0001f600") for n in range(30)]
    rows += [(f"plot {n} bad", "لا") for n in range(30)]
    data = write_csv(folder / "rows.csv", list(rows), ("text", "label"))
    subprocess.run(["cp", "-r", made_bank / "bank", folder / "bank"], check=True)
    done("--home", folder / "bank", "add", "--task", "arabic", "--data", data, "--epochs", 1)
    return folder


@pytest.mark.parametrize("environment", ENCODINGS, ids=lambda e: next(iter(e.values())))
def test_what_an_encoding_cannot_carry_is_escaped_and_json_stays_json(
    environment: dict[str, str], arabic: Path, tmp_path: Path
) -> None:
    home = arabic / "bank"
    code, out, err = shell("@ show arabic", home=home, folder=tmp_path, **environment)
    assert (code, err) == (0, "")
    assert "نعم" in out or r"\u0646\u0639\u0645" in out
    code, out, err = shell("@ --json show 'نعم'", home=home, folder=tmp_path, **environment)
    assert (code, out) == (10, "") if "LC_ALL" not in environment else (2, "")
    assert json.loads(err)["error"]["code"] == code


def test_labels_that_an_encoding_cannot_carry_are_added_and_answered(
    arabic: Path, tmp_path: Path
) -> None:
    environment, home = ENCODINGS[1], arabic / "bank"
    words = "@ --json predict film --task arabic"
    code, out, _ = shell(words, home=home, folder=tmp_path, **environment)
    assert code == 0
    assert set(json.loads(out)["scores"]) == {"لا", "نعم \U0001f600"}
    subprocess.run(["cp", "-r", home, tmp_path / "bank"], check=True)
    words = f"@ add --task arabic --data {arabic}/rows.csv --epochs 1 --new-version"
    code, _, err = shell(words, home=tmp_path / "bank", folder=tmp_path, **environment)
    assert (code, "Traceback" in err) == (0, False)


def test_names_that_are_not_utf_8_are_escaped_and_hinder_no_work(
    bank: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "data.csv", "mood", 60, seed=5)
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.rename(data, odd + b".csv")

    def run(*words: str | bytes) -> subprocess.CompletedProcess[bytes]:
        command = [*warm.command(), "--home", str(bank), "--json", *words]
        return subprocess.run(command, capture_output=True, timeout=120, check=False)

    added = run("add", "--task", "odd", "--data", odd + b".csv", "--epochs", "1")
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["expert"]["id"] == "odd@1"
    shipped = run("export", odd)
    assert shipped.returncode == 0, shipped.stderr
    assert json.loads(shipped.stdout)["path"].endswith("caf\udce9")
    assert run("forgetting-report", "--html", odd + b".html").returncode == 0
    unknown = run("show", b"caf\xe9")
    assert unknown.returncode == 2
    assert "not UTF-8" in json.loads(unknown.stderr)["error"]["message"]


def test_output_of_a_caller_in_the_same_process_is_left_as_it_is(made_bank: Path) -> None:
    code = (
        "import sys; from expertbank_cli.main import run\n"
        "before = sys.stdout, sys.stderr\n"
        "try: run(['--home', sys.argv[1], 'list'])\n"
        "except SystemExit as ended: assert ended.code == 0\n"
        "assert before == (sys.stdout, sys.stderr)\n"
    )
    subprocess.run([sys.executable, "-c", code, made_bank / "bank"], check=True, timeout=60)


def test_a_report_that_cannot_be_written_is_told_before_the_work(
    bank: Path, tmp_path: Path
) -> None:
    before = content(bank)
    (tmp_path / "folder").mkdir()
    for option in ("--html", "--markdown"):
        for target in ("folder", "gone/report", "x" * 300):
            words = f"@ forgetting-report --verify {option} {tmp_path}/{target}"
            code, out, err = shell(words, home=bank, folder=tmp_path)
            assert (code, out, err.count("\n")) == (2, "", 1)
    assert content(bank) == before


def test_a_report_is_shown_though_its_file_cannot_be_written_after_all(
    bank: Path, tmp_path: Path
) -> None:
    code, out, err = shell(
        "@ --json forgetting-report --html /dev/full", home=bank, folder=tmp_path
    )
    assert code == 1
    assert json.loads(out)["weights_unchanged"]
    assert "/dev/full" in json.loads(err)["error"]["message"]
