"""What bad input gets: its exit code, what is wrong, where and what to do; nothing is written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
from command_line import COMMAND, Answer, call, content, done, task_rows, write_csv, write_task
from expertbank_cli import session

from expertbank import Bank
from expertbank.bank import Bank as OpenBank
from expertbank.records import ProgressEvent

GOOD = [f"{text},{label}" for text, label in task_rows("mood", 40)]


def lines(*rows: str) -> bytes:
    return ("\n".join(rows) + "\n").encode()


@pytest.fixture(params=["a bank", "no bank yet"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bank with experts, or the name of one that is still to be made."""
    if request.param == "a bank":
        found: Path = request.getfixturevalue("bank")
        return found
    return tmp_path / "bank"


@pytest.fixture
def refused(home: Path, backbone: Path) -> Callable[..., Answer]:
    """Run ``add`` on ``home``; it must fail and leave the folder as it was, or absent."""

    def add(*words: object) -> Answer:
        before = content(home) if home.exists() else None
        named = [] if before else ["--backbone", backbone]
        answer = call("--home", home, "add", *words, *named)
        assert answer.code != 0
        assert answer.out == ""
        assert answer.err.startswith("expertbank: ")
        assert (content(home) if home.exists() else None) == before
        return answer

    return add


DATA: dict[str, tuple[str, bytes, str]] = {
    "a missing column": ("d.csv", lines("phrase,label", *GOOD), r"d\.csv:1: .*--text-column"),
    "a missing label column": ("d.csv", lines("text,mark", *GOOD), r"d\.csv:1: .*--label-column"),
    "an empty file": ("d.csv", b"", r"d\.csv:1: "),
    "a header alone": ("d.csv", lines("text,label"), r"d\.csv:1: .*no rows"),
    "one class only": (
        "d.csv",
        lines("text,label", "a film,good", "the film,good"),
        r"d\.csv:1: .*'good'.*nothing to tell apart",
    ),
    "a row with a cell too many": (
        "d.csv",
        lines("text,label", *GOOD, "a film,good,really"),
        r"d\.csv:42: 3 cells",
    ),
    "bytes that are not UTF-8": (
        "d.csv",
        lines("text,label", *GOOD) + b"caf\xe9,good\n",
        r"d\.csv:42: not valid UTF-8",
    ),
    "a line that is not JSON": (
        "d.jsonl",
        lines('{"text": "a film", "label": "good"}', '{"text": "a film'),
        r"d\.jsonl:2: not valid JSON",
    ),
    "a row without a label": (
        "d.csv",
        lines("text,label", *GOOD, "a film,"),
        r"d\.csv:42: no label",
    ),
    "a row without text": ("d.csv", lines("text,label", *GOOD, ",good"), r"d\.csv:42: .*empty"),
    "a file that is no Parquet": ("d.parquet", b"PAR1 no", r"d\.parquet:1: not readable"),
    "an Excel workbook by its name": ("d.xlsx", b"x", r"an Excel workbook"),
}


@pytest.mark.parametrize("case", DATA)
def test_unusable_data_exits_2_with_file_and_line(
    case: str, refused: Callable[..., Answer], tmp_path: Path
) -> None:
    name, data, message = DATA[case]
    (tmp_path / name).write_bytes(data)
    answer = refused("--task", "fresh", "--data", tmp_path / name)
    assert answer.code == 2
    assert re.search(message, answer.err), answer.err


def test_a_validation_label_unseen_in_train_exits_2_with_its_line(
    refused: Callable[..., Answer], tmp_path: Path
) -> None:
    folder = tmp_path / "split"
    folder.mkdir()
    write_task(folder / "train.csv", "mood", 40)
    write_csv(folder / "validation.csv", [("a film", "good"), ("a plot", "odd")], ("text", "label"))
    answer = refused("--task", "fresh", "--data", folder)
    assert answer.code == 2
    assert re.search(r"validation\.csv:3: .*'odd'.*'bad', 'good'", answer.err), answer.err


def test_an_unknown_task_exits_10_with_near_names(refused: Callable[..., Answer]) -> None:
    answer = refused("--task", "bolq")
    assert answer.code == 10
    assert "did you mean boolq" in answer.err
    assert "--data" in answer.err


@pytest.mark.parametrize(
    "name", ["", "../evil", "/tmp/evil", "Upper", "a b", "a" * 65, "-a", "ä", "a\nb", "a/b", "."]
)
def test_a_task_name_never_becomes_a_path(
    name: str, refused: Callable[..., Answer], tmp_path: Path
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 40)
    before = content(tmp_path)
    answer = refused(f"--task={name}", "--data", data)
    assert answer.code == 2
    assert "task name" in answer.err
    assert content(tmp_path) == before


OPTIONS: dict[str, list[str]] = {
    "epochs": ["--epochs", "0"],
    "lr": ["--lr", "-1"],
    "tt_rank": ["--tt-rank", "0"],
    "alpha": ["--alpha", "0"],
    "pooling": ["--pooling", "max"],
    "modules": ["--target", "query", "--target", "query"],
    "limit": ["--limit", "3"],
    "eval_limit": ["--eval-limit", "0"],
    "seed": ["--seed", "-1"],
    "batch_size": ["--batch-size", "0"],
}


@pytest.mark.parametrize("what", OPTIONS)
def test_an_option_out_of_range_exits_2_and_is_named(
    what: str, refused: Callable[..., Answer], tmp_path: Path
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 40)
    answer = refused("--task", "fresh", "--data", data, *OPTIONS[what])
    assert answer.code == 2
    assert what in answer.err


def test_a_feature_spec_the_backbone_cannot_have_exits_2(backbone: Path, tmp_path: Path) -> None:
    home = tmp_path / "new"
    for option in (["--route-layer", "99"], ["--route-layer", "-1"], ["--max-length", "4000"]):
        answer = call("--home", home, "init", "--backbone", backbone, *option)
        assert answer.code == 2, answer.err
        assert not home.exists()


@pytest.mark.parametrize("option", [["--route-layer", "3"], ["--max-length", "32"]])
@pytest.mark.parametrize("command", ["init", "add"])
def test_another_feature_spec_than_the_banks_exits_2_and_says_so(
    command: str, option: list[str], bank: Path, tmp_path: Path
) -> None:
    before = content(bank)
    data = write_task(tmp_path / "d.csv", "mood", 40)
    more = ["--task", "fresh", "--data", data] if command == "add" else []
    answer = call("--home", bank, command, *more, *option)
    assert answer.code == 2
    assert option[1] in answer.err
    assert "--home" in answer.err
    assert content(bank) == before


def _other_backbone(tmp_path: Path) -> Path:
    return tiny.build(tmp_path / "other", "bert", seed=1)


def _digest_of(backbone: Path, tmp_path: Path) -> str:
    home = tmp_path / "probe"
    found = done("--home", home, "--json", "init", "--backbone", backbone).document
    digest: str = found["backbone"]["digest"]
    return digest


def test_another_backbone_exits_13_with_both_digests(
    bank: Path, backbone: Path, made_bank: Path, tmp_path: Path
) -> None:
    other = _other_backbone(tmp_path)
    digests = {_digest_of(backbone, tmp_path / "a"), _digest_of(other, tmp_path / "b")}
    data = write_task(tmp_path / "d.csv", "mood", 40)
    before = content(bank)
    calls: list[list[object]] = [
        ["--home", bank, "init", "--backbone", other],
        ["--home", bank, "add", "--task", "fresh", "--data", data, "--backbone", other],
        ["--home", bank, "predict", "a film", "--backbone", other],
        ["--home", bank, "export", tmp_path / "out", "--backbone", other],
        ["--home", bank, "forgetting-report", "--verify", "--backbone", other],
        ["predict", "--bundle", made_bank / "bundle", "a film", "--backbone", other],
    ]
    for words in calls:
        answer = call(*words)
        assert answer.code == 13, words
        assert all(digest in answer.err for digest in digests), answer.err
        assert answer.out == ""
    assert {key: value for key, value in content(bank).items() if "digests" not in key} == {
        key: value for key, value in before.items() if "digests" not in key
    }
    assert not (tmp_path / "out").exists()


def test_a_backbone_folder_that_is_not_there_exits_2(bank: Path, tmp_path: Path) -> None:
    missing = tmp_path / "gone"
    answer = call("--home", tmp_path / "new", "init", "--backbone", missing)
    assert answer.code == 2
    assert str(missing) in answer.err
    assert not (tmp_path / "new").exists()


@pytest.fixture
def initialised(backbone: Path, tmp_path: Path) -> Path:
    """A bank with a backbone and no expert."""
    home = tmp_path / "empty"
    done("--home", home, "init", "--backbone", backbone)
    return home


@pytest.mark.parametrize("command", [["retrain-router"], ["forgetting-report"], ["predict", "sky"]])
def test_without_an_expert_exits_10_with_the_command_to_run_first(
    command: list[str], initialised: Path
) -> None:
    before = content(initialised)
    answer = call("--home", initialised, *command)
    assert answer.code == 10
    assert " add" in answer.err
    assert content(initialised) == before


def test_export_and_predict_without_a_router_exit_10_with_the_command_to_run_first(
    initialised: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 40)
    done("--home", initialised, "add", "--task", "mood", "--data", data, "--epochs", 1)
    before = content(initialised)
    for command in (["export", tmp_path / "out"], ["predict", "sky"]):
        answer = call("--home", initialised, *command)
        assert answer.code == 10
        assert " retrain-router" in answer.err
    assert content(initialised) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    ["list", "history", "verify", "alias", "show mood", "retrain-router", "forgetting-report"],
)
def test_where_no_bank_is_exits_10_and_makes_none(command: str, tmp_path: Path) -> None:
    home = tmp_path / "none"
    answer = call("--home", home, *command.split())
    assert answer.code == 10
    assert " init" in answer.err
    assert not home.exists()


def _offline(*words: object, unset: bool) -> subprocess.CompletedProcess[str]:
    # A proxy that refuses at once stands for a Hub that cannot be reached.
    environment = {
        **os.environ,
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    environment["HF_HUB_OFFLINE"] = "0" if unset else "1"
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=45,
        check=False,
    )


@pytest.mark.parametrize("unset", [False, True], ids=["offline mode", "unreachable"])
def test_an_unreachable_hub_is_told_at_once_with_the_offline_ways(
    unset: bool, tmp_path: Path
) -> None:
    home = tmp_path / "new"
    for words in (
        ["init", "--backbone", "someone/some-model"],
        ["add", "--task", "fresh", "--data", "hf:someone/some-data"],
    ):
        ended = _offline("--home", home, *words, unset=unset)
        assert ended.returncode == 1
        assert "someone/some-" in ended.stderr
        assert "expertbank[offline]" in ended.stderr
        assert "Retrying" not in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not home.exists()


def test_a_second_add_exits_3_and_new_version_makes_version_2(bank: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=3)
    before = content(bank)
    answer = call("--home", bank, "add", "--task", "mood", "--data", data)
    assert answer.code == 3
    assert "--new-version" in answer.err
    assert content(bank) == before
    words = ["--home", bank, "--json", "add", "--task", "mood", "--data", data, "--epochs", 1]
    assert done(*words, "--new-version").document["expert"]["id"] == "mood@2"
    after = content(bank)
    objects = {name for name in before if name.startswith("objects/")}
    assert {name: after[name] for name in objects} == {name: before[name] for name in objects}


def test_a_router_trained_while_an_expert_came_exits_4_and_is_not_kept(
    bank: Path, made_bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=3)
    routers = done("--home", bank, "--json", "list").document["routers"]
    came: list[str] = []

    class Watching(session.ProgressView):
        """Another user adds an expert, for real, in the moment the gate is fitted."""

        def __call__(self, event: ProgressEvent) -> None:
            if event.stage.startswith("fitting") and not came:
                came.append("now")
                with OpenBank.open(bank) as other:
                    other.add("late", data=data)
            super().__call__(event)

    monkeypatch.setattr(session, "ProgressView", Watching)
    answer = call("--home", bank, "--json", "retrain-router")
    assert came
    assert answer.code == 4
    assert " retrain-router" in answer.error["message"]
    assert done("--home", bank, "--json", "list").document["routers"] == routers
    again = done("--home", bank, "--json", "retrain-router").document
    assert "late" in again["tasks"]


def test_a_database_of_a_newer_program_exits_12_and_stays_as_it_is(bank: Path) -> None:
    with contextlib.closing(sqlite3.connect(bank / "registry.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = content(bank)
    for command in (["list"], ["retrain-router"], ["db", "upgrade"], ["init"]):
        answer = call("--home", bank, *command)
        assert answer.code == 12
        assert "9999" in answer.err
    assert content(bank) == before


def test_a_file_that_is_no_database_exits_13(bank: Path) -> None:
    (bank / "registry.db").write_bytes(b"not a database at all" * 100)
    answer = call("--home", bank, "list")
    assert answer.code == 13
    assert "registry.db" in answer.err


def test_a_folder_that_is_no_bundle_is_never_replaced(bank: Path, tmp_path: Path) -> None:
    other = tmp_path / "web"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    (other / "thesis.txt").write_text("years of work")
    before = content(other)
    answer = call("--home", bank, "export", other)
    assert answer.code == 3
    assert content(other) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "web"]


ROWS: dict[str, tuple[bytes, str]] = {
    "not JSON": (b'{"text": "a"}\nnope\n', "standard input:2"),
    "no text": (b'{"txt": "a"}\n', "standard input:1"),
    "an empty text": (b'{"text": " "}\n', "standard input:1"),
    "a list": (b"[1]\n", "standard input:1"),
    "a misspelt pair": (b'{"text": "a", "text_pairs": "b"}\n', "did you mean 'text_pair'"),
    "not UTF-8": (b'{"text": "caf\xe9"}\n', "standard input:1"),
    "choices": (b'{"text": "a", "choices": ["b", "c"]}\n', "standard input:1"),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_bad_row_to_predict_exits_2_with_its_line(case: str, bank: Path) -> None:
    data, message = ROWS[case]
    answer = call("--home", bank, "--json", "predict", "--file", "-", stdin=data)
    assert answer.code == 2
    assert message in answer.error["message"]


def test_predict_refuses_nothing_both_and_a_pair_for_two(bank: Path, tmp_path: Path) -> None:
    for words in (
        ["predict"],
        ["predict", "a", "--file", "-"],
        ["predict", "a", "b", "--text-pair", "c"],
        ["predict", ""],
        ["predict", "--file", tmp_path / "gone.jsonl"],
    ):
        assert call("--home", bank, *words).code == 2
    unknown = call("--home", bank, "predict", "a", "--task", "mod")
    assert unknown.code == 10
    assert "mood" in unknown.err


# A runner in the background hands down an ignored SIGINT; a person's terminal does not.
_TELLS_ALL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from expertbank_cli import main, progress
progress.PLAIN_INTERVAL = 0
main.run()
"""


@contextlib.contextmanager
def _training(home: Path, data: Path) -> Iterator[subprocess.Popen[str]]:
    words = ["--home", home, "--json", "add", "--task", "long", "--data", data]
    with subprocess.Popen(
        [sys.executable, "-c", _TELLS_ALL, *words, "--epochs", "1000", "--patience", "1000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_while_training_exits_130_and_leaves_the_bank_as_it_was(
    bank: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 200, seed=3)
    before = content(bank)
    with _training(bank, data) as process:
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("training long"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        code = process.wait(timeout=60)
        watchdog.cancel()
        assert process.stdout is not None
        assert process.stdout.read() == ""
    assert code == 130
    assert "Traceback" not in rest
    assert json.loads(rest.splitlines()[-1])["error"]["code"] == 130
    assert content(bank) == before
    done("--home", bank, "add", "--task", "long", "--data", data, "--epochs", 1)
    assert done("--home", bank, "--json", "verify").document["ok"]


def test_ctrl_c_is_the_same_for_the_python_caller(bank: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=3)
    before = content(bank)

    def interrupt(event: ProgressEvent) -> None:
        if event.stage.startswith("training"):
            raise KeyboardInterrupt

    with Bank.open(bank) as opened, pytest.raises(KeyboardInterrupt):
        opened.add("long", data=data, progress=interrupt)
    assert content(bank) == before
