"""Prompts longer than the bank reads: routed by their beginning, written on from their end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from command_line import done, task_rows
from small_tasks import write_rows
from test_generation_command import ANSWERS, FILLERS, KIND

from expertbank import Bank
from expertbank.data import encode_rows
from expertbank.evaluation.predictions import Predictions
from expertbank.records import Row
from expertbank.routing.feature_file import FeatureFile
from expertbank.workflows.measure import trunk_features

READ = 10
"""Words of a prompt that fit."""
MOST = READ + 2


def long_prompts(count: int, seed: int) -> list[tuple[str, str]]:
    """The colour that decides the answer stands among the last words."""
    rng = random.Random(f"long{seed}")
    rows: dict[str, str] = {}
    while len(rows) < count:
        colour = rng.choice(list(ANSWERS))
        words = [*rng.choices(("virus", "gene", "cell"), k=4), *rng.choices(FILLERS, k=14), colour]
        rows.setdefault(" ".join(words), ANSWERS[colour])
    return list(rows.items())


def ends(text: str) -> tuple[str, str]:
    """What is routed by, and what is written on."""
    words = text.split()
    return " ".join(words[:READ]), " ".join(words[-READ:])


@pytest.fixture(scope="module")
def made(backbone_folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long")
    home = ["--home", folder / "bank"]
    done(*home, "init", "--backbone", backbone_folder("llama, tied"), "--max-length", MOST)
    data = write_rows(folder / "paint.csv", long_prompts(60, 0), ("prompt", "completion"))
    added = done(*home, "add", *KIND, "--task", "paint", "--data", data, "--epochs", 1, "--json")
    assert added.document["train"]["truncated"] == added.document["train"]["examples"]
    assert "60 of 60 rows are longer than 12 tokens and are cut: their last tokens" in added.err
    mood = [(f"{text} {text} {text}", label) for text, label in task_rows("mood", 60)]
    data = write_rows(folder / "mood.csv", mood, ("text", "label"))
    done(*home, "add", "--task", "mood", "--data", data, "--epochs", 1, "--retrain-router")
    return folder / "bank"


def test_a_named_expert_writes_on_from_the_last_tokens(made: Path) -> None:
    texts = [text for text, _ in long_prompts(6, 1)]
    named = ["--home", made, "predict", "--task", "paint", "--json"]
    found, expected = done(*named, *texts).lines, done(*named, *(ends(t)[1] for t in texts)).lines
    assert [one["text"] for one in found] == [one["text"] for one in expected]
    assert [one["truncated"] for one in found] == [True] * 6
    assert [one["truncated"] for one in expected] == [False] * 6


def test_the_router_reads_the_first_tokens_in_a_batch_of_all_sorts(made: Path) -> None:
    texts = [text for text, _ in long_prompts(6, 1)]
    moods = [f"{text} {text} {text}" for text, _ in task_rows("mood", 6, seed=1)]
    asked = [*texts, *moods, "the sky is red"]
    whole = ["--home", made, "predict", "--json"]
    found = done(*whole, *asked).lines
    routed = done(*whole, *(ends(text)[0] for text in asked)).lines
    written = done(*whole, "--task", "paint", *(ends(text)[1] for text in asked)).lines
    assert {one["task"] for one in found} == {"paint", "mood"}
    for one, by_beginning, by_end in zip(found, routed, written, strict=True):
        assert one["task"] == by_beginning["task"]
        assert one["confidence"] == pytest.approx(by_beginning["confidence"], abs=1e-4)
        wanted = by_end if one["task"] == "paint" else by_beginning
        assert one["label"] == wanted["label"]
    assert [one["truncated"] for one in found] == [True] * 12 + [False]


def test_evidence_of_cut_prompts_holds_and_the_router_is_judged_on_their_beginnings(
    made: Path,
) -> None:
    report = done("--home", made, "--json", "forgetting-report", "--verify").document
    assert report["weights_unchanged"]
    with Bank.open(made) as bank:
        workspace = bank._workspace
        kept = bank.registry.feature_set("paint@1")
        file = FeatureFile.from_bytes(workspace.store.get(kept.digest), "here")
        (oracle,) = bank.registry.evaluations("paint@1", router_version="oracle")
        stored = Predictions.from_bytes(workspace.store.get(oracle.artifact_digest), "here")
        texts = {Row(text, label=label).digest: text for text, label in long_prompts(60, 0)}
        rows = [Row(ends(texts[digest])[0]) for digest in stored.row_digests]
        encoded = encode_rows(rows, workspace.backbone.tokenizer, None, (), MOST)
        found = trunk_features(workspace.model, encoded)
    rounding = 0.03  # features are kept in few bits
    assert (file.evaluation.float() - found.float()).abs().max() < rounding


def test_a_person_is_told_how_many_were_cut(made: Path) -> None:
    texts = [text for text, _ in long_prompts(3, 2)]
    said = done("--home", made, "predict", "--task", "paint", "the sky is red", *texts)
    assert "note: 3 longer than the bank reads, and cut (row 1, 2, 3)" in said.err
