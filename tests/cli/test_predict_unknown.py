"""`init --keep`, and `predict --abstain` and `--fallback`, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import call, done, task_rows, write_csv

STRANGE = "zq ? ? ? ? xj ? ? ?"


def test_abstaining_answers_unknown_and_a_fallback_sends_the_row_elsewhere(
    made_bank: Path,
) -> None:
    for place in (["--home", made_bank / "bank"], ["--bundle", made_bank / "bundle"]):
        (plain,) = done("predict", *place, STRANGE, "--json").lines
        assert plain["unknown"] is True
        (cautious,) = done("predict", *place, STRANGE, "--abstain", "--json").lines
        assert (cautious["label"], cautious["scores"]) == ("unknown", {})
        assert (cautious["abstained"], plain["abstained"]) == (True, False)
        own = dict.fromkeys(("label", "scores", "abstained"))
        assert {**cautious, **own} == {**plain, **own}
        (sent,) = done("predict", *place, STRANGE, "--fallback", "mood", "--json").lines
        assert (sent["task"], sent["unknown"]) == ("mood", True)
    both = call("--home", made_bank / "bank", "predict", "a", "--abstain", "--task", "mood")
    assert both.code == 2
    assert "only one" in both.err
    nowhere = call("--home", made_bank / "bank", "predict", "a", "--fallback", "nowhere")
    assert nowhere.code == 10


def test_a_fallback_that_cannot_read_the_row_is_said_to_have_had_no_say(
    bank: Path, tmp_path: Path
) -> None:
    rows = [
        {"question": text, "choices": ["dark sky", "light sky"], "answer": int(label == "light")}
        for text, label in task_rows("sport", 60, seed=4)
    ]
    data = tmp_path / "asked.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ("--kind", "multiple_choice", "--choices-column", "choices", "--epochs", 1)
    done("--home", bank, "add", "--task", "asked", "--data", data, *asked, "--retrain-router")
    told = done("--home", bank, "predict", STRANGE, "--fallback", "asked")
    assert "like no task here, and asked reads no such rows (row 0)" in told.err
    told = done("--home", bank, "predict", STRANGE, "--fallback", "mood")
    assert "like no task here" not in told.err


def test_rows_that_cannot_be_answered_are_not_sent_to_a_check_of_labels(
    bank: Path, tmp_path: Path
) -> None:
    data = tmp_path / "asked.jsonl"
    data.write_text('{"text": "ok"}\n{"text": ""}\n{"text": " "}\n')
    answer = call("--home", bank, "predict", "--file", data)
    assert answer.code == 2
    assert "tasks check" not in answer.err
    assert "--skip-bad leaves such rows out" in answer.err
    assert len(done("--home", bank, "--json", "predict", "--file", data, "--skip-bad").lines) == 1


def test_init_fixes_what_is_kept_of_rows(tmp_path: Path, backbone: Path) -> None:
    home = tmp_path / "bank"
    made = done("--home", home, "init", "--backbone", backbone, "--keep", "stats", "--json")
    assert made.document["feature_spec"]["keep"] == "stats"
    other = call("--home", home, "init", "--keep", "features")
    assert other.code == 2
    assert "keep stats, not features" in other.err


def test_a_class_called_unknown_is_not_taken_for_an_abstention(
    backbone: Path, tmp_path: Path
) -> None:
    labels = ("(unknown)", "unknown")
    rows = [
        (text, labels[label == "good"]) for text, label in task_rows("mood", 120) if "sky" in text
    ]
    data = write_csv(tmp_path / "odd.csv", rows, ("text", "label"))
    home = ["--home", tmp_path / "bank"]
    add = ["add", "--task", "unknown", "--data", data, "--epochs", 3, "--backbone", backbone]
    done(*home, *add, "--retrain-router")
    known = next(text for text, label in rows if label == "unknown")
    texts = ["predict", known, STRANGE, "--abstain"]
    said, abstained = done(*home, "--json", *texts).lines
    assert (said["abstained"], abstained["abstained"]) == (False, True)
    assert said["label"] in said["scores"]
    assert abstained["scores"] == {}
    _, _, first, second = done(*home, *texts).out.splitlines()
    shown = f'"{said["label"]}"'
    assert shown in first
    assert " (unknown) " in second
    assert '"' not in second
    table = done(*home, "evaluate", "--task", "unknown", "--data", data).out
    assert '\n"unknown" ' in table
    assert '\n"(unknown)" ' in table


def test_explaining_tells_what_came_close_and_how_rare_the_row_is_from_bank_and_bundle(
    made_bank: Path,
) -> None:
    told = []
    for place in (["--home", made_bank / "bank"], ["--bundle", made_bank / "bundle"]):
        (plain,) = done("predict", *place, STRANGE, "--json").lines
        (line,) = done("predict", *place, STRANGE, "--explain", "--json").lines
        why = line.pop("explanation")
        assert line == plain
        near = why["near"]
        assert line["task"] in near[0]["tasks"]
        assert near[0]["probability"] == line["confidence"]
        assert [one["probability"] for one in near] == sorted(
            (one["probability"] for one in near), reverse=True
        )
        assert why["unknown_p_value"] == line["unknown_p_value"]
        assert 0 < why["unknown_p_value"] <= 1
        assert why["tokens"] > 0
        assert "tokens" in why["length_bin"]
        shown = done("predict", *place, STRANGE, "--explain").out
        assert why["length_bin"] in shown
        assert all(name in shown for name in near[0]["tasks"])
        told.append(why)
    assert told[0] == told[1]
