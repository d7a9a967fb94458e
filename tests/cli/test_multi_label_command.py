"""Rows with several labels or none, through every command."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from command_line import call, done, write_task
from small_tasks import write_jsonl, write_rows

WORDS = {"goal": "sport", "loan": "money", "gene": "science"}
_FILLERS = ("is", "the", "sky", "a", "of", "and", "not", "river")


def tagged_rows(count: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """Each of three words stands for a label; a row has any number of them."""
    rng = random.Random(f"tags{seed}")
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        held = [word for word in WORDS if rng.random() < 0.4]
        words = [*held, *rng.choices(_FILLERS, k=4)]
        rng.shuffle(words)
        text = " ".join(words)
        rows.setdefault(text, {"text": text, "labels": sorted(WORDS[word] for word in held)})
    return list(rows.values())


@pytest.fixture(scope="session")
def made_tags(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags")
    start = ["--home", folder / "bank", "add", "--backbone", backbone_folder("bert")]
    data = write_jsonl(folder / "tags.jsonl", tagged_rows())
    mood = write_task(folder / "mood.csv", "mood")
    done(*start, "--task", "tags", "--data", data, "--kind", "multi_label", "--epochs", 6)
    done(*start, "--task", "mood", "--data", mood, "--epochs", 1, "--retrain-router")
    done("--home", folder / "bank", "export", folder / "bundle")
    return folder


def test_what_is_printed_names_exact_match_and_f1(made_tags: Path) -> None:
    listed = done("--home", made_tags / "bank", "--json", "show", "tags").document
    assert listed["expert"]["labels"] == ["money", "science", "sport"]
    metrics = listed["evaluations"][0]["metrics"]
    assert metrics["exact_match"] == metrics["accuracy"] > metrics["majority"]
    assert metrics["micro_f1"] > 0.7
    assert metrics["p_beats_majority"] < 0.05


def test_bank_and_bundle_give_the_same_labels_and_every_probability(
    made_tags: Path, tmp_path: Path
) -> None:
    rows = tagged_rows(40, seed=5)
    file = write_jsonl(tmp_path / "rows.jsonl", [{"text": row["text"]} for row in rows])
    both = [
        done("predict", *place, "--task", "tags", "--file", file, "--json").lines
        for place in (["--home", made_tags / "bank"], ["--bundle", made_tags / "bundle"])
    ]
    assert both[0] == both[1]
    for line in both[0]:
        assert line["label"] is None
        assert set(line["labels"]) <= set(line["scores"]) == {"money", "science", "sport"}
        assert all(0 <= chance <= 1 for chance in line["scores"].values())
    right = [line["labels"] == row["labels"] for line, row in zip(both[0], rows, strict=True)]
    assert sum(right) > 20
    assert any(line["labels"] == [] for line in both[0])
    shown = done("predict", "--home", made_tags / "bank", "--task", "tags", "goal loan").out
    assert "sport" in shown


def test_evaluate_counts_whole_sets_and_each_label(made_tags: Path, tmp_path: Path) -> None:
    rows = tagged_rows(40, seed=7)
    data = write_jsonl(tmp_path / "new.jsonl", rows)
    home = ["--home", made_tags / "bank"]
    result = done(*home, "--json", "evaluate", "--task", "tags", "--data", data).document
    lines = done(
        *home, "predict", "--task", "tags", "--json", "--file",
        write_jsonl(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in rows]),
    ).lines  # fmt: skip
    given = [line["labels"] for line in lines]
    assert result["metric"] == "accuracy"
    assert result["oracle"] == sum(
        a == row["labels"] for a, row in zip(given, rows, strict=True)
    ) / len(rows)
    for label, counts in result["per_label"].items():
        own = [label in a for a, row in zip(given, rows, strict=True) if label in row["labels"]]
        assert counts == {"n": len(own), "right": sum(own)}


def test_a_bank_with_several_labels_a_row_is_found_sound(made_tags: Path) -> None:
    checked = call("--home", made_tags / "bank", "--json", "verify")
    assert checked.document["problems"] == []
    assert checked.code == 0


def test_the_report_verifies_and_judges_exact_match(made_tags: Path) -> None:
    report = done("--home", made_tags / "bank", "--json", "forgetting-report", "--verify").document
    line = {one["task"]: one for one in report["tasks"]}["tags"]
    assert line["metric"] == "accuracy"
    assert line["oracle"] == line["at_add"]
    assert line["verdict"]["routed"] == "identical"
    assert report["verification"]["tags"]["max_logit_difference"] == 0


def test_text_lists_and_flags_make_the_same_expert(backbone: Path, tmp_path: Path) -> None:
    rows = tagged_rows(80)
    labels = ("money", "science", "sport")
    lists = write_jsonl(tmp_path / "lists.jsonl", rows)
    texts = write_rows(
        tmp_path / "texts.csv",
        [(row["text"], ";".join(row["labels"])) for row in rows],
        ("text", "labels"),
    )
    flags = write_rows(
        tmp_path / "flags.csv",
        [(row["text"], *(str(int(label in row["labels"])) for label in labels)) for row in rows],
        ("text", *labels),
    )
    ways = [
        [lists, "--kind", "multi_label"],
        [texts, "--label-separator", ";"],
        [flags, *(word for label in labels for word in ("--label-column", label))],
    ]
    made = []
    for number, (data, *words) in enumerate(ways):
        home = ["--home", tmp_path / f"bank{number}", "--json"]
        made.append(
            done(
                *home,
                "add",
                "--task",
                "tags",
                "--data",
                data,
                *words,
                "--epochs",
                1,
                "--backbone",
                backbone,
            ).document
        )
    assert len({one["expert"]["digest"] for one in made}) == 1
    assert made[0]["metrics"] == made[1]["metrics"] == made[2]["metrics"]


def test_a_dry_run_counts_each_label(tmp_path: Path) -> None:
    rows = tagged_rows(60)
    data = write_rows(
        tmp_path / "tags.csv",
        [(row["text"], "|".join(row["labels"])) for row in rows],
        ("text", "labels"),
    )
    found = done("--json", "tasks", "check", data, "--label-separator", "|").document
    counts = {one["label"]: one["train"] + one["validation"] for one in found["labels"]}
    for label in WORDS.values():
        assert counts[label] == sum(label in row["labels"] for row in rows)
    assert found["kind"] == "multi_label"


def test_a_list_of_labels_for_another_kind_is_refused(backbone: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "tags.jsonl", tagged_rows(20))
    answer = call(
        *["--home", tmp_path / "none", "add", "--task", "tags", "--data", data],
        *["--backbone", backbone],
    )
    assert answer.code == 2
    assert "multi_label" in answer.err
    assert not (tmp_path / "none").exists()


def test_a_peft_export_carries_the_thresholds(made_tags: Path, tmp_path: Path) -> None:
    from safetensors import safe_open

    out = tmp_path / "peft"
    done("--home", made_tags / "bank", "export", out, "--format", "peft", "--task", "tags")
    with safe_open(out / "tags" / "head.safetensors", "np") as file:
        assert file.get_tensor("threshold").shape == (3,)
        assert json.loads(file.metadata()["expertbank"])["kind"] == "multi_label"
    assert 'head["threshold"]' in (out / "tags" / "README.md").read_text()
