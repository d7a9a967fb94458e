"""``expertbank`` alone says what to do next, and the shell completes names of the bank."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import call, done
from expertbank_cli.outcome import Outcome


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], set[str]]:
    """By line and bank of the environment what bash is offered for the line's last word."""

    def ask(line: str, home: Path) -> set[str]:
        monkeypatch.setenv("EXPERTBANK_HOME", str(home))
        monkeypatch.setenv("_EXPERTBANK_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        answer = call()
        assert answer.err == ""
        return set(answer.out.split())

    return ask


def test_without_a_command_it_says_how_the_bank_stands_and_what_comes_next(bank: Path) -> None:
    told = done("--home", bank).out
    assert "3: mood@1, poll@1, sport@1" in told
    assert " forgetting-report --verify" in told
    assert told == done("status", "--home", bank).out
    found = done("--home", bank, "--json", "status").document
    assert found["router"] == 2
    assert found["unrouted"] == []


def test_an_expert_that_no_router_knows_makes_retraining_the_next_step(
    bank: Path, made_bank: Path
) -> None:
    done(
        *("--home", bank, "add", "--task", "mood", "--data", made_bank / "mood.csv"),
        *("--epochs", 1, "--new-version"),
    )
    found = done("--json", "--home", bank, "status").document
    assert found["unrouted"] == ["mood@2"]
    assert found["retired"] == ["mood@1"]
    (command,) = [step["command"] for step in found["steps"]]
    assert command == f"expertbank --home {bank} retrain-router"
    assert command in done("--home", bank).out
    done(*shlex.split(command)[1:])
    assert done("--json", "--home", bank, "status").document["unrouted"] == []


def test_a_removed_task_is_told_and_its_expert_is_to_leave_the_router(bank: Path) -> None:
    done("--home", bank, "remove", "--task", "poll", "--yes")
    found = done("--json", "--home", bank, "status").document
    assert found["removed"] == ["poll"]
    assert found["retired"] == ["poll@1"]
    assert [step["command"] for step in found["steps"]] == [
        f"expertbank --home {bank} retrain-router",
        f"expertbank --home {bank} add --task poll --new-version",
    ]
    assert "removed" in done("--home", bank).out


def test_where_all_tasks_were_removed_every_command_says_so_and_how_one_comes_back(
    bank: Path,
) -> None:
    for task in ("mood", "poll", "sport"):
        done("--home", bank, "remove", "--task", task, "--yes")
    (step,) = done("--json", "--home", bank, "status").document["steps"]
    assert step["why"] == "all tasks of the bank were removed"
    assert "add --task NAME --new-version" in step["command"]
    assert "yet" not in done("--home", bank, "status").out
    for words in (["predict", "a film"], ["retrain-router"]):
        refused = call("--home", bank, *words)
        assert refused.code == 10
        assert f"{step['why']}; first run: {step['command']}" in refused.err


def test_where_there_is_no_bank_the_help_and_the_first_command_are_told(tmp_path: Path) -> None:
    alone = call("--home", tmp_path / "none")
    assert alone.code == 0
    assert "Commands:" in alone.out
    assert " add --task bbc_news" in alone.err
    assert call("--home", tmp_path / "none", "status").code == 10
    asked = call("--json", "--home", tmp_path / "none")
    assert (asked.code, json.loads(asked.err)["error"]["code"]) == (2, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("remove --task ", {"mood", "poll", "sport"}),
        ("predict --task m", {"mood"}),
        ("evaluate --task po", {"poll"}),
        ("show s", {"sport", "sport@1"}),
        ("show router@", {"router@1", "router@2"}),
        ("forgetting-report --from a", {"active"}),
        ("add --task mo", {"mood"}),
        ("add --task bo", {"boolq"}),
    ],
)
def test_names_of_the_bank_are_completed(
    line: str, names: set[str], made_bank: Path, offered: Callable[[str, Path], set[str]]
) -> None:
    assert offered(f"expertbank {line}", made_bank / "bank") == names


def test_a_group_is_completed_where_it_can_be_named(
    bank: Path, offered: Callable[[str, Path], set[str]]
) -> None:
    done("--home", bank, "group", "moods", "mood", "poll")
    assert offered("expertbank predict --task moo", bank) == {"mood", "moods"}
    assert offered("expertbank evaluate --task moo", bank) == {"mood"}


def test_the_bank_that_the_line_names_is_completed_from(
    made_bank: Path, tmp_path: Path, offered: Callable[[str, Path], set[str]]
) -> None:
    home, elsewhere = made_bank / "bank", tmp_path / "none"
    for line in (f"--home {home} show mo", f"show --home {home} mo"):
        assert offered(f"expertbank {line}", elsewhere) == {"mood", "mood@1"}
    assert offered("expertbank show mo", elsewhere) == set()


@pytest.mark.parametrize(
    ("shell", "sign"),
    [("bash", " "), ("bash", " = "), ("zsh", "="), ("fish", " "), ("powershell", " ")],
)
def test_every_shell_completes_from_the_bank_that_stands_after_the_command(
    shell: str, sign: str, made_bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "a bank"
    home.symlink_to(made_bank / "bank")
    line = f"expertbank show --home{sign}'{home}' mo"  # bash parts words at every =
    monkeypatch.setenv("EXPERTBANK_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("_EXPERTBANK_COMPLETE", f"complete_{shell}")
    if shell == "bash":
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", "5" if "=" in sign else "4")
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_WORD_TO_COMPLETE", "mo")  # PowerShell
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    answer = call()
    assert answer.err == ""
    assert "mood@1" in answer.out


def test_added_shows_how_the_held_out_score_went(bank: Path, made_bank: Path) -> None:
    words = ("--home", bank, "add", "--data", made_bank / "mood.csv", "--new-version")
    told = done(*words, "--task", "mood", "--epochs", 3).out
    line = next(line for line in told.splitlines() if line.startswith("learned"))
    found = done(*words, "--task", "sport", "--epochs", 3, "--json").document["train"]
    assert len(found["curve"]) == found["epochs_trained"] == 3
    assert max(found["curve"]) == found["selection_score"]
    assert sum(line.count(bar) for bar in "▁▂▃▄▅▆▇█") == 3


def test_a_router_that_gc_made_unusable_is_said_to_be(bank: Path) -> None:
    for task in ("mood", "poll", "sport"):
        done("--home", bank, "remove", "--task", task, "--yes")
    assert done("--home", bank, "--json", "status").document["router_usable"] is True
    done("--home", bank, "gc", "--purge-removed", "--yes")
    assert done("--home", bank, "--json", "status").document["router_usable"] is False
    assert "router@2 (unusable: gc deleted files that it needs)" in done("--home", bank).out


def test_advice_is_about_the_bank_of_the_command_wherever_the_environment_points(
    bank: Path, made_bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPERTBANK_HOME", str(made_bank / "nowhere"))
    answer = call("--home", bank, "predict", "--task", "moood", "a film")
    assert answer.code == 10
    add = done(
        *("--home", bank, "add", "--task", "mood", "--data", made_bank / "mood.csv"),
        *("--epochs", 1, "--new-version"),
    )
    assert f"expertbank --home {bank} retrain-router" in add.err
    monkeypatch.setenv("EXPERTBANK_HOME", str(bank))
    assert done("status").out.count("--home") == 0


@pytest.mark.parametrize(
    "home",
    ["postgresql://me:s3cret@db/bank", "postgresql:///bank?host=/run/db&user=me&password=s3cret"],
)
def test_advice_about_a_bank_in_a_database_shows_no_password(home: str) -> None:
    outcome = Outcome(["add", "--home", home, "--task", "mood", "--resume"])
    for text in (
        outcome.again,
        outcome.here("run: expertbank retrain-router"),
        outcome.here(outcome.again),
    ):
        assert "s3cret" not in text
        assert text.count("--home") == 1
        assert "bank" in text.partition("--home")[2]
