"""A task whose newest expert the router does not hold yet: which expert answered is said."""

from __future__ import annotations

from pathlib import Path

from command_line import call, done, write_task


def test_commands_say_which_expert_answers_a_task_that_is_named(bank: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "mood.csv", "mood")
    at_first = done("--home", bank, "evaluate", "--task", "mood", "--data", data)
    assert "retrain-router" not in at_first.err
    done("--home", bank, "add", "--task", "mood", "--data", data, "--new-version", "--epochs", 1)
    note = "note: mood is answered by mood@2 when it is named, and by mood@1 when the router"
    shown = done("--home", bank, "evaluate", "--task", "mood", "--data", data)
    assert note in shown.err
    assert "mood@2" in shown.out
    assert "mood@1" in shown.out
    told = done("--home", bank, "--json", "evaluate", "--task", "mood", "--data", data)
    assert (told.document["expert"], told.document["routed_expert"]) == ("mood@2", "mood@1")
    assert told.document["routed"] <= told.document["routed_expert_oracle"]
    named = done("--home", bank, "predict", "--task", "mood", "a good film")
    assert note in named.err
    assert note not in done("--home", bank, "--quiet", "predict", "--task", "mood", "good").err
    assert note not in done("--home", bank, "predict", "a good film").err
    shown = done("--home", bank, "--json", "show", "mood@2")
    assert shown.document["expert"]["spec"] == shown.document["run"]["data"]["spec"]
    done("--home", bank, "retrain-router")
    assert note not in done("--home", bank, "predict", "--task", "mood", "a good film").err


def test_measuring_a_task_that_the_router_does_not_know_says_so(bank: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "late.csv", "mood", 40, seed=3)
    done("--home", bank, "add", "--task", "late", "--data", data, "--epochs", 1)
    told = done("--home", bank, "evaluate", "--task", "late", "--data", data, "--json")
    assert (told.document["routed"], told.document["routed_expert"]) == (0, None)
    assert "the router does not know late" in told.err
    assert " retrain-router" in told.err


def test_going_back_moves_what_the_router_chooses_and_no_task_that_is_named(
    bank: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "mood.csv", "mood")
    again = ("add", "--task", "mood", "--data", data, "--new-version", "--epochs", 1)
    done("--home", bank, *again, "--retrain-router")
    done("--home", bank, "alias", "active", "router@2")
    done("--home", bank, "export", tmp_path / "bundle")

    def expert(*words: object) -> str:
        (line,) = done("--json", *words, "a good red film").lines
        return str(line["expert"])

    of_bank, of_bundle = ("--home", bank, "predict"), ("predict", "--bundle", tmp_path / "bundle")
    assert expert(*of_bank) == expert(*of_bundle) == "mood@1"
    assert expert(*of_bank, "--task", "mood") == "mood@2"
    assert expert(*of_bundle, "--task", "mood") == "mood@1"
    done("--home", bank, "remove", "--task", "mood", "--yes")
    assert expert(*of_bank) == "mood@1"
    assert call("--home", bank, "predict", "--task", "mood", "a film").code == 10
