"""Texts that look like options, paths as people write them, and values that cannot be."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from command_line import COMMAND, Answer, call, content, done, write_csv, write_task
from expertbank_cli.words import split_globals
from places import working_in

from expertbank import Bank, BankConfig, TrainConfig, load_bundle
from expertbank.errors import ExpertBankError, InputError

SHELL = os.name == "posix"


@pytest.mark.parametrize("text", ["-5 stars", "-hello", "--great--", "--task-like", "-", "-h-"])
def test_a_text_like_an_option_is_refused_with_the_words_that_would_do(
    text: str, bank: Path
) -> None:
    if text != "-":
        answer = call("--home", bank, "predict", text)
        assert answer.code == 2
        advised = shlex.split(answer.err.partition("put -- in front: ")[2])
        assert advised == ["expertbank", "--home", str(bank), "predict", "--", text]
        assert done(*advised[1:]).out
    lines = done("--home", bank, "--json", "predict", "--", text, stdin=b"from a pipe\n").lines
    assert len(lines) == 1


@pytest.mark.parametrize("words", [["show", "-x"], ["tasks", "check", "-x.csv"], ["import", "-x"]])
def test_every_command_that_takes_a_word_says_so(words: list[str], bank: Path) -> None:
    answer = call("--home", bank, *words)
    assert answer.code == 2
    assert shlex.join([*words[:-1], "--", words[-1]]) in answer.err


def test_an_option_that_is_none_is_one_line_for_commands_without_words(bank: Path) -> None:
    for words in (["tasks", "-x"], ["list", "-x"], ["gc", "--nope"], ["list", "--home"]):
        answer = call(*words, *([] if "--home" in words else ["--home", bank]))
        assert (answer.code, answer.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["predict", "--", "--json"], ["predict", "--", "--json"]),
        (["--", "--json", "--home"], ["--", "--json", "--home"]),
        (
            ["predict", "--home", "x", "--", "--home", "y"],
            ["--home=x", "predict", "--", "--home", "y"],
        ),
        (["predict", "--json", "a"], ["--json", "predict", "a"]),
        (["list", "--home", "--json"], ["--home=--json", "list"]),
        (["add", "--tune"], ["add", "--tune=20"]),
        (["add", "--tune", "--json"], ["--json", "add", "--tune=20"]),
        (["add", "--tune", "5", "--task", "a"], ["add", "--tune", "5", "--task", "a"]),
        (["add", "--tune=5"], ["add", "--tune=5"]),
        (["predict", "--", "--tune"], ["predict", "--", "--tune"]),
    ],
)
def test_what_stands_after_two_dashes_is_never_an_option(
    words: list[str], expected: list[str]
) -> None:
    front, rest = split_globals(words)
    assert front + rest == expected


@pytest.mark.parametrize(
    "words",
    [
        ["add", "--task", "mood", "--data", "a.csv", "--data", "b.csv"],
        ["predict", "--file", "a.jsonl", "--file=b.jsonl"],
        ["evaluate", "--task", "mood", "--task", "poll", "--data", "a.csv"],
        ["tasks", "check", "--data", "a.csv", "--data", "b.csv"],
        ["--home", "here", "list", "--home", "there"],
    ],
)
def test_what_a_command_works_on_is_not_given_twice(words: list[str]) -> None:
    answer = call(*words)
    assert answer.code == 2
    assert "stands twice, and takes one value" in answer.err


def test_a_setting_may_be_overridden_by_another_at_the_end() -> None:
    answer = call("tasks", "check", "--task", "mood", "--data", "gone.csv", "--lr", 1, "--lr", 2)
    assert "twice" not in answer.err


def test_errors_about_texts_like_global_options_are_told_to_people(bank: Path) -> None:
    answer = call("--home", bank, "predict", "--task", "gone", "--", "--json")
    assert answer.code == 10
    assert answer.err.startswith("expertbank: ")


def test_a_dash_is_one_text_from_standard_input(bank: Path) -> None:
    def scores(*words: str, stdin: bytes = b"") -> object:
        return done("--home", bank, "--json", "predict", *words, stdin=stdin).lines[0]["scores"]

    assert scores("-", stdin=b"a good film\r\n") == scores("a good film")
    assert scores("-", stdin="\ufeffa good\nfilm".encode()) == scores("a good\nfilm")
    assert scores("-", "--text-pair", "bad", stdin=b"film") == scores("film", "--text-pair", "bad")
    for stdin in (b"", b"\n", b"\xff\xfe", b"a\0b"):
        answer = call("--home", bank, "predict", "-", stdin=stdin)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert call("--home", bank, "predict", "-", "-", stdin=b"film").code == 2


def test_a_tilde_is_the_home_folder_also_after_an_equals_sign(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    data = write_task(tmp_path / "d.csv", "mood", 60)
    before = content(tmp_path)
    with working_in(tmp_path):
        assert done("--json", "list", "--home=~/bank").document["experts"]
        done("--home=~/bank", "export", "~/shipped")
        done("predict", "--bundle=~/shipped", "film")
        done("--home=~/bank", "forgetting-report", "--html=~/r.html", "--markdown=~/r.md")
        done("--home=~/bank", "db", "backup", "~/copy.db")
        done("--home=~/bank", "evaluate", "--task", "mood", "--data=~/d.csv")
        (tmp_path / "rows.jsonl").write_text('{"text": "film"}\n')
        done("--home=~/bank", "predict", "--file=~/rows.jsonl")
        (tmp_path / "list.yaml").write_text("- {task: listed, data: ~/d.csv, epochs: 1}\n")
        done("--home=~/bank", "add", "--list=~/list.yaml")
    assert not (tmp_path / "~").exists()
    made = {"shipped", "r.html", "r.md", "copy.db", "rows.jsonl", "list.yaml"}
    assert {name.split("/")[0] for name in set(content(tmp_path)) - set(before)} - made == {"bank"}
    with working_in(tmp_path), Bank.open("~/bank", create=False) as opened:
        assert opened.experts()
        opened.export("~/api")
        assert load_bundle("~/api")
    assert data.exists()


def _refused(answer: Answer) -> bool:
    return answer.code == 2 and answer.err.count("\n") == 1 and answer.out == ""


EMPTY = (
    ["--home", "", "list"],
    ["--home=", "add", "--task", "mood"],
    ["--device", "", "predict", "film"],
    ["export", ""],
    ["import", ""],
    ["db", "backup", ""],
    ["db", "restore", ""],
    ["forgetting-report", "--html", ""],
    ["forgetting-report", "--markdown", ""],
    ["forgetting-report", "--backbone", ""],
    ["predict", "film", "--bundle", ""],
    ["predict", "film", "--backbone", ""],
    ["predict", "--file", ""],
    ["tasks", "show", "--spec", ""],
    ["tasks", "check", ""],
    ["add", "--list", ""],
    ["add", "--task", ""],
    ["add", "--spec", ""],
    ["add", "--task", "x", "--data", ""],
    ["add", "--task", "x", "--group", ""],
    ["add", "--task", "x", "--kind", ""],
    ["add", "--task", "x", "--text-column", ""],
    ["group", "", "mood"],
    ["group", "feelings", ""],
    ["group", "--ungroup", ""],
    ["init", "--backbone", ""],
    ["init", "--store", ""],
    ["evaluate", "--task", "mood", "--data", ""],
    ["retrain-router", "--kind", ""],
    ["retrain-router", "--set", ""],
)


@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_an_empty_value_is_refused_and_never_a_default_or_the_working_folder(
    words: list[str], bank: Path, tmp_path: Path
) -> None:
    (tmp_path / "here").mkdir()
    before = content(bank)
    with working_in(tmp_path / "here"):
        home = [] if words[0].startswith("--home") else ["--home", bank]
        assert _refused(call(*home, *words))
    assert content(bank) == before
    assert list((tmp_path / "here").iterdir()) == []


NUMBERS = (
    *(["init", "--max-length", value] for value in ("0", "-1", "7", "9" * 30, "nan", "1.5")),
    *(["init", "--route-layer", value] for value in ("-1", "9" * 30, "inf")),
    *(["forgetting-report", "--margin", value] for value in ("0", "-1", "1", "nan", "inf")),
    *(["forgetting-report", "--verify", "--sample", value] for value in ("0", "-1", "x")),
    *(["gc", "--yes", "--grace", value] for value in ("-1", "nan", "inf")),
    *(["gc", "--yes", "--keep-routers", value] for value in ("0", "-1")),
    *(["tasks", "check", "d.csv", "--max-length", value] for value in ("0", "-1")),
    *(
        ["tasks", "check", "d.csv", "--tokens-per-second", value]
        for value in ("0", "-1", "nan", "inf")
    ),
    *(["retrain-router", "--kind", "mlp", "--seed", value] for value in ("-1", "9" * 30)),
    *(
        ["retrain-router", "--kind", "mlp", "--set", f"{name}={value}"]
        for name in ("lr", "epochs", "hidden", "ridge")
        for value in ("0", "-1", "nan", "inf", "")
    ),
    *(
        ["add", "--task", "x", "--data", "d.csv", f"--{name}", value]
        for name in ("lr", "weight-decay", "warmup", "alpha", "selection-share")
        for value in ("-1", "nan", "inf", "9" * 400)
    ),
    *(
        ["add", "--task", "x", "--data", "d.csv", f"--{name}", value]
        for name in ("epochs", "tt-rank", "batch-size", "limit", "eval-limit", "patience")
        for value in ("0", "-1", "nan")
    ),
)


@pytest.mark.parametrize("words", NUMBERS, ids=lambda words: " ".join(words)[:70])
def test_a_number_that_cannot_be_is_refused_in_one_line(
    words: list[str], made_bank: Path, tmp_path: Path
) -> None:
    write_task(tmp_path / "d.csv", "mood", 60)
    home = tmp_path / "new" if words[0] == "init" else made_bank / "bank"
    with working_in(tmp_path):
        assert _refused(call("--home", home, *words))


def test_the_library_refuses_the_same(bank: Path, tmp_path: Path) -> None:
    with working_in(tmp_path), pytest.raises(InputError, match="must not be empty"):
        Bank.open("")
    with pytest.raises(InputError, match="must not be empty"):
        load_bundle("")
    for wrong in (
        lambda: BankConfig(max_length=0),
        lambda: BankConfig(backbone=""),
        lambda: BankConfig(store=""),
        lambda: TrainConfig(weight_decay=float("inf")),
        lambda: TrainConfig(lr=float("nan")),
        lambda: Bank.open(bank, backbone=""),
        lambda: Bank.open(bank, store=""),
        lambda: Bank.open("~no-such-user-here/bank"),
        lambda: Bank.open("x" * 300),
    ):
        with pytest.raises(InputError):
            wrong()
    with Bank.open(bank) as opened:
        for wrong in (
            lambda: opened.export(""),
            lambda: opened.import_bundle(""),
            lambda: opened.backup(""),
            lambda: opened.restore(""),
            lambda: opened.add("x", data=""),
            lambda: opened.retrain_router(""),
        ):
            with pytest.raises(ExpertBankError):
                wrong()


_PATHS = {
    "a name of 300 letters": "x" * 300,
    "a circle of links": "circle",
    "a file as a folder": "file/inside",
    "a folder as a file": "folder",
    "a folder that is not there": "gone/inside",
    "an unknown user": "~no-such-user-here/x",
}
_PLACES = (
    ["export"],
    ["export", "--format", "peft"],
    ["import"],
    ["db", "backup"],
    ["db", "restore", "--yes"],
    ["forgetting-report", "--html"],
    ["forgetting-report", "--markdown"],
    ["tasks", "show", "--spec"],
    ["tasks", "check"],
    ["add", "--list"],
    ["add", "--spec"],
    ["add", "--task", "x", "--data"],
    ["evaluate", "--task", "mood", "--data"],
    ["predict", "film", "--bundle"],
    ["predict", "--file"],
    ["init", "--backbone"],
)


@pytest.mark.skipif(not SHELL, reason="links and names as POSIX has them")
@pytest.mark.parametrize("what", _PATHS)
def test_a_path_that_cannot_be_is_one_line_that_names_it(
    what: str, bank: Path, tmp_path: Path
) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "file").write_text("- {")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("a")
    given = _PATHS[what]
    with working_in(tmp_path):
        for words in _PLACES:
            if what == "a folder that is not there" and words[0] == "export":
                continue  # it is made
            answer = call("--home", bank, *words, given)
            assert answer.code not in {0, 5, 130}, words
            assert answer.err.count("\n") == 1, (words, answer.err)
            assert "defect" not in answer.err, (words, answer.err)
            assert given.split("/")[0] in answer.err, (words, answer.err)
        if what not in {"a folder as a file", "a folder that is not there"}:
            words = ["init", "--backbone", tmp_path / "file"]
            answer = call("--home", given, *words)
            assert answer.code in {1, 2}
            assert answer.err.count("\n") == 1
            assert "defect" not in answer.err


@pytest.mark.skipif(not SHELL, reason="process substitution")
def test_texts_from_a_process_are_read_like_a_file(bank: Path) -> None:
    command = f"{shlex.join(COMMAND)} --home {bank} --json"
    words = f'{command} predict --file <(echo \'{{"text": "film"}}\')'
    ended = subprocess.run(["bash", "-c", words], capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_defect_is_one_line_and_its_traceback_can_be_had(
    bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expertbank.registry.registry import Registry  # noqa: F401 (loaded before it is broken)
    from expertbank.registry.sqlite.registry import SqliteRegistry

    def broken(self: object) -> object:
        raise KeyError("a defect\nof ours")

    monkeypatch.setattr(SqliteRegistry, "history", broken)
    answer = call("--home", bank, "--json", "history")
    assert answer.code == 1
    assert answer.err.count("\n") == 1
    assert "KeyError" in answer.error["message"]
    assert "EXPERTBANK_TRACEBACK=1" in answer.error["message"]
    monkeypatch.setenv("EXPERTBANK_TRACEBACK", "1")
    answer = call("--home", bank, "--json", "history")
    assert "Traceback" in answer.err
    assert answer.error["code"] == 1


def test_how_files_are_read_is_refused_where_no_file_is(bank: Path) -> None:
    answer = call("--home", bank, "predict", "red film", "--separator", ";", "--skip-bad")
    assert (answer.code, answer.out) == (2, "")
    assert "--separator, --skip-bad: for rows of a --file" in answer.err


def test_one_text_for_a_task_of_pairs_is_told(backbone: Path, tmp_path: Path) -> None:
    rows = [(f"sky {n}", f"sea {n}", "yes" if n % 2 else "no") for n in range(30)]
    data = write_csv(tmp_path / "pairs.csv", rows, ("premise", "hypothesis", "label"))
    home = ["--home", tmp_path / "bank", "--json"]
    add = ["add", "--task", "same", "--data", data, "--epochs", 1, "--backbone", backbone]
    done(*home, *add)
    asked = [*home, "predict", "--task", "same", "sky 1"]
    assert "--text-pair gives the second text" in done(*asked).err
    assert "--text-pair gives" not in done(*asked, "--text-pair", "sea 1").err


@pytest.mark.parametrize(
    "words", [["--json", "--home"], ["--json", "--device"], ["list", "--json", "--home"]]
)
def test_a_program_that_forgets_a_value_is_told_in_json(words: list[str]) -> None:
    answer = call(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.error == {"code": 2, "message": f"{words[-1]} needs a value"}
    plain = call("predict", "--bundle", "/nowhere", "--", "--json")
    assert plain.err.startswith("expertbank: ")


def test_the_version_is_json_too() -> None:
    assert done("--json", "--version").document == {
        "version": done("--version").out.split()[1],
    }
