"""A verification that verified nothing says so, and fails where that was asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import Answer, call, done, write_task

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="module")
def made_moods(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of two tasks with their data beside it."""
    folder = tmp_path_factory.mktemp("moods")
    for task in ("mood", "poll"):
        data = write_task(folder / f"{task}.csv", task)
        new = ["--backbone", backbone_folder("bert")]
        done("--home", folder / "bank", "add", "--task", task, "--data", data, "--epochs", 1, *new)
        done("--home", folder / "bank", "retrain-router")
    return folder


@pytest.fixture
def moods(made_moods: Path, tmp_path: Path) -> Iterator[Path]:
    """``made_moods``, whose data may be changed and is as before afterwards."""
    for task in ("mood", "poll"):
        shutil.copy(made_moods / f"{task}.csv", tmp_path)
    yield made_moods
    for task in ("mood", "poll"):
        shutil.copy(tmp_path / f"{task}.csv", made_moods)


def report(folder: Path, *words: object) -> Answer:
    return call("--home", folder / "bank", "--json", "forgetting-report", "--verify", *words)


def test_nothing_verified_is_told_with_path_and_advice_and_fails_if_asked(moods: Path) -> None:
    for task in ("mood", "poll"):
        (moods / f"{task}.csv").unlink()
    plain = report(moods, "--fail-on", "lost")
    assert plain.code == 0
    assert "warning: --verify ran no row again" in plain.err
    for task, found in plain.document["verification"].items():
        assert found["rows"] == 0
        assert found["unverifiable"] == found["of"] > 0
        assert found["max_logit_difference"] is None
        assert str(moods / f"{task}.csv") in found["reason"]
        assert f"put the data that {task}@1 was added with back" in found["reason"]
    failed = report(moods, "--fail-on", "lost", "--fail-on", "unverifiable")
    assert failed.code == 5
    assert failed.document == plain.document
    message = failed.error["message"]
    assert message.startswith("--fail-on unverifiable: mood: there is no file")
    assert str(moods / "poll.csv") in message


def test_no_output_claims_what_was_not_run(moods: Path, tmp_path: Path) -> None:
    (moods / "mood.csv").unlink()
    (moods / "poll.csv").unlink()
    words = ["--home", moods / "bank", "forgetting-report", "--verify"]
    page, text = tmp_path / "page.html", tmp_path / "report.md"
    shown = done(*words, "--html", page, "--markdown", text)
    assert "not verified mood: 0 of 16 rows run again, 16 unverifiable: there is no" in shown.out
    assert "no row could be run again" in shown.out.splitlines()[0]
    assert "largest logit difference" not in shown.out
    assert "nothing compared" in page.read_text(encoding="utf-8")
    for file in (page, text):
        told = file.read_text(encoding="utf-8").replace("\\", "")
        assert "no row could be run again" in told
        assert str(moods / "mood.csv") in told


def test_one_row_that_was_changed_is_enough_to_fail(moods: Path) -> None:
    assert report(moods, "--fail-on", "unverifiable").code == 0
    digests = json.dumps(report(moods).document["verification"])
    assert '"reason": null' in digests
    lines = (moods / "mood.csv").read_text().splitlines()
    (moods / "mood.csv").write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    (moods / "poll.csv").write_text((moods / "poll.csv").read_text().replace("text,", "body,", 1))
    failed = report(moods, "--fail-on", "unverifiable")
    found = failed.document["verification"]
    assert failed.code == 5
    assert "no column 'text'" in found["poll"]["reason"]
    gone = found["mood"]["unverifiable"]
    if gone:  # whether the first row is one of those held out is the split's to say
        assert f"{gone} of 16 rows are not in {moods / 'mood.csv'}" in found["mood"]["reason"]
        assert found["mood"]["max_logit_difference"] is not None
    assert "warning" not in failed.err


def test_a_sample_fails_for_its_own_rows_only(moods: Path) -> None:
    lines = (moods / "mood.csv").read_text().splitlines()
    (moods / "mood.csv").write_text("\n".join(lines[:30]) + "\n")
    for count in (1, 5, 16):
        answer = report(moods, "--sample", count, "--fail-on", "unverifiable")
        found = answer.document["verification"]["mood"]
        assert found["rows"] + found["unverifiable"] == count
        assert answer.code == (5 if found["unverifiable"] else 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fail-on", "unverifiable"], "add --verify"),
        (["--verify", "--fail-on", "lost,unverifiable"], "repeat it"),
        (["--verify", "--fail-on", ""], "lost, inconclusive, unverifiable"),
    ],
)
def test_a_gate_that_could_never_close_is_refused(moods: Path, words: list[str], told: str) -> None:
    answer = call("--home", moods / "bank", "forgetting-report", *words)
    assert answer.code == 2
    assert told in answer.err


def test_a_bank_of_statistics_without_its_rows_is_not_proved(
    backbone_folder: FolderOf, tmp_path: Path
) -> None:
    home = ["--home", tmp_path / "bank"]
    done(*home, "init", "--backbone", backbone_folder("bert"), "--keep", "stats")
    for task in ("mood", "poll"):
        data = write_task(tmp_path / f"{task}.csv", task)
        done(*home, "add", "--task", task, "--data", data, "--epochs", 1)
        done(*home, "retrain-router")
    assert done(*home, "--json", "forgetting-report").document["verdict"]["routed"] == "identical"
    (tmp_path / "mood.csv").unlink()
    answer = call(*home, "--json", "forgetting-report", "--fail-on", "inconclusive")
    assert answer.code == 5
    lines = {line["task"]: line for line in answer.document["tasks"]}
    assert lines["mood"]["verdict"]["routed"] == "inconclusive"
    assert str(tmp_path / "mood.csv") in lines["mood"]["unread"]
    assert (lines["poll"]["verdict"]["routed"], lines["poll"]["unread"]) == ("identical", None)
    page = tmp_path / "page.html"
    shown = done(*home, "forgetting-report", "--html", page).out
    assert "Its rows could not be routed again: there is no file" in shown
    assert "Rows of mood could not be read again" in shown
    assert "could not be routed again" in page.read_text(encoding="utf-8")


def test_verify_of_a_bank_without_files_says_so(backbone_folder: FolderOf, tmp_path: Path) -> None:
    home = ["--home", tmp_path / "bank"]
    done(*home, "init", "--backbone", backbone_folder("bert"))
    assert "no file was verified" in done(*home, "verify").err


def test_evaluate_refuses_no_row(moods: Path, tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("text,label\n")
    home = ["--home", moods / "bank"]
    answer = call(*home, "evaluate", "--task", "mood", "--data", tmp_path / "none.csv")
    assert answer.code == 2
    assert "none.csv" in answer.err


def test_rows_that_came_through_a_pipe_are_not_asked_to_be_put_back(
    backbone: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood").read_bytes()
    home = ["--home", tmp_path / "bank"]
    add = ["add", "--task", "mood", "--data", "-", "--epochs", 1, "--backbone", backbone]
    done(*home, *add, "--retrain-router", stdin=data)
    found = report(tmp_path).document["verification"]["mood"]
    assert found["unverifiable"] == found["of"] > 0
    assert "keep data that shall be verified later in a file" in found["reason"]
    assert "put the data" not in found["reason"]
