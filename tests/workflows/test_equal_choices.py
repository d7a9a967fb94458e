"""Rows that bring a choice twice: the same count at add, in evaluate and in the report."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from expertbank import Bank, TrainConfig
from expertbank.data import Columns, task_spec
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import Kind
from expertbank.kinds.multiple_choice import MultipleChoice

FolderOf = Callable[[str], Path]
WORDS = ("the", "sky", "blue", "river", "bank", "money", "loan", "film", "plot", "vote", "yes")


def write_rows(path: Path, count: int, seed: int) -> Path:
    """Rows of four choices of which two or three are one text; the label may name any."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            one, two, three = (" ".join(rng.sample(WORDS, 2)) for _ in range(3))
            choices = rng.choice(([one, two, one, three], [one, two, two, two]))
            row = {
                "text": f"{' '.join(rng.choices(WORDS, k=4))} {number}",
                "choices": choices,
                "label": rng.randrange(4),
            }
            file.write(json.dumps(row) + "\n")
    return path


def add(folder: Path, backbone: Path) -> float:
    folder.mkdir(exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    write_rows(folder / "data" / "train.jsonl", 60, 0)
    write_rows(folder / "data" / "validation.jsonl", 40, 1)
    with Bank.open(folder / "bank", backbone=str(backbone)) as bank:
        spec = task_spec("pick").with_columns(Columns("text", choices=("choices",), label="label"))
        added = bank.add(spec, data=folder / "data", train=TrainConfig(epochs=1))
        bank.retrain_router()
        accuracy: float = added.metrics["accuracy"]
        return accuracy


@pytest.fixture(scope="module")
def picked(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picked")
    add(folder, backbone_folder("bert"))
    return folder


def test_what_was_counted_at_add_is_counted_again_everywhere(picked: Path) -> None:
    rows = [json.loads(x) for x in (picked / "data" / "validation.jsonl").open(encoding="utf-8")]
    with Bank.open(picked / "bank") as bank:
        (line,) = bank.forgetting_report(verify=True).tasks
        found = bank.evaluate("pick", picked / "data" / "validation.jsonl")
        said = bank.predict([{key: row[key] for key in ("text", "choices")} for row in rows])
        bank.export(picked / "bundle")
    right = sum(a.label == r["choices"][r["label"]] for a, r in zip(said, rows, strict=True))
    assert right / len(rows) == found.oracle == line.oracle == line.at_add
    for one in said:
        assert one.label == max(one.scores, key=one.scores.__getitem__)
        assert sum(one.scores.values()) == pytest.approx(1, abs=1e-6)


def test_what_was_measured_before_equal_choices_were_one_is_verified_as_it_is(
    backbone_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Banks of before keep a logit for each choice, and the position that the data named."""
    with monkeypatch.context() as before:
        before.setattr(MultipleChoice, "first_places", Kind.first_places)
        before.setattr(MultipleChoice, "truth", Kind.truth)
        add(tmp_path / "old", backbone_folder("bert"))
    with Bank.open(tmp_path / "old" / "bank") as bank:
        (row,) = bank.registry.evaluations(router_version="oracle")
        digest = row.artifact_digest
        path = tmp_path / "old" / "bank" / "objects" / digest[:2] / f"{digest}.safetensors"
        stored = Predictions.from_bytes(path.read_bytes(), "stored")
        assert np.isfinite(stored.logits).all(), "as an earlier version stored it"
        report = bank.forgetting_report(verify=True)
    (line,) = report.tasks
    assert line.oracle == line.at_add
    assert line.verdict_routed == "identical"
    found = report.verification["pick"]
    assert (found["rows"], found["unverifiable"]) == (40, 0)
    assert (found["max_logit_difference"], found["within_tolerance"]) == (0, [])
