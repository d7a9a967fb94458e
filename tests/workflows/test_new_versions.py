"""What an expert was trained on is its own: a later version may have other columns and labels."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from small_bank import SHORT

from expertbank import Bank, load_bundle
from expertbank.data import Columns
from expertbank.errors import InputError
from expertbank.reports.words import reason, summary
from expertbank.workflows.answering.evaluate import evaluate

WORDS = ("sky", "film", "plot", "vote", "law", "tax", "river", "money", "loan")
OLD, NEW = {"a": "red", "b": "green"}, {"a": "red", "b": "green", "c": "blue"}


def write(path: Path, labels: dict[str, str], columns: tuple[str, str], seed: int = 0) -> Path:
    rng = random.Random(seed)
    rows = {
        " ".join([*rng.sample(WORDS, 4), labels[label]]): label
        for label in [*labels] * (120 // len(labels))
    }
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows.items()])
    return path


@pytest.fixture(scope="module")
def versions(backbone_folder: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank whose router holds ``colour@1``; ``colour@2`` has a label and columns more."""
    folder = tmp_path_factory.mktemp("versions")
    old = write(folder / "old.csv", OLD, ("text", "label"))
    new = write(folder / "new.csv", NEW, ("question", "category"))
    reference = str(backbone_folder("bert"))  # type: ignore[operator]  # the fixture of conftest
    with Bank.open(folder / "bank", backbone=reference) as bank:
        bank.add("colour", data=old, train=SHORT)
        bank.retrain_router()
        bank.export(folder / "first")
        bank.add("colour", data=new, train=SHORT, new_version=True)
        bank.backup(folder / "before.db")
    write(folder / "later.csv", NEW, ("question", "category"), seed=1)
    return folder


def test_rows_are_read_with_the_labels_and_columns_of_the_expert_that_answers(
    versions: Path,
) -> None:
    with Bank.open(versions / "bank", read_only=True) as bank:
        found = bank.evaluate("colour", versions / "later.csv")
        assert found.expert == "colour@2"
        assert set(found.per_label) == {"a", "b", "c"}
        named = bank.predict("red sky", task="colour")
        assert set(named[0].scores) == {"a", "b", "c"}
        with pytest.raises(InputError):
            bank.evaluate("colour", versions / "old.csv")
        again = bank.evaluate(
            "colour", versions / "old.csv", columns=Columns("text", label="label")
        )
        assert set(again.per_label) == {"a", "b"}


def test_the_named_expert_and_the_routers_are_told_apart_and_measured_alike(
    versions: Path,
) -> None:
    with Bank.open(versions / "bank", read_only=True) as bank:
        found = bank.evaluate("colour", versions / "later.csv")
        (routed,) = bank.predict("red sky")
        (named,) = bank.predict("red sky", task="colour")
        assert (routed.expert, named.expert) == ("colour@1", "colour@2")
        assert (found.expert, found.routed_expert) == ("colour@2", "colour@1")
        # The router has one task, so nothing is lost by routing: the experts differ.
        assert found.routed == found.routed_expert_oracle != found.oracle
        assert "colour@2" in str(found.remark)
        assert "colour@1" in str(found.remark)
        told = json.loads(json.dumps(found.to_dict()))
        assert told["routed_expert"] == "colour@1"
        assert told["routed_expert_oracle"] == found.routed


def test_after_retraining_both_are_one_expert(versions: Path, tmp_path: Path) -> None:
    with Bank.open(versions / "bank") as bank:
        bank.retrain_router()
        try:
            found = bank.evaluate("colour", versions / "later.csv")
            bank.export(tmp_path / "bundle", for_import=True)
        finally:
            bank.restore(versions / "before.db")
    assert found.remark is None
    assert found.routed_expert == found.expert == "colour@2"
    assert found.routed == found.routed_expert_oracle == found.oracle
    (entry,) = json.loads((tmp_path / "bundle" / "manifest.json").read_text())["experts"]
    assert entry["spec"]["labels"] == entry["labels"] == ["a", "b", "c"]
    assert entry["spec"]["columns"]["text"] == "question"
    opened = load_bundle(tmp_path / "bundle")
    later = str(versions / "later.csv")
    shipped = evaluate(opened.experts, lambda: opened, "colour", later)
    assert shipped == found
    with Bank.open(tmp_path / "other") as other:
        other.import_bundle(tmp_path / "bundle")
        assert other.evaluate("colour", versions / "later.csv").oracle == found.oracle
        assert other.tasks()[0].labels == ("a", "b", "c")


def test_a_bundle_of_the_first_version_reads_rows_as_the_first_version(versions: Path) -> None:
    bundle = load_bundle(versions / "first")
    found = evaluate(bundle.experts, lambda: bundle, "colour", str(versions / "old.csv"))
    assert (found.expert, found.routed_expert, found.remark) == ("colour@1", "colour@1", None)
    assert set(found.per_label) == {"a", "b"}


def test_every_version_is_verified_on_its_own_rows(versions: Path) -> None:
    with Bank.open(versions / "bank", read_only=True) as bank:
        report = bank.forgetting_report(verify=True)
    assert report.verification is not None
    assert report.verification["colour"]["unverifiable"] == 0
    assert report.verification["colour"]["rows"] > 0


def test_experts_that_were_measured_on_other_rows_are_not_called_identical(
    versions: Path, tmp_path: Path
) -> None:
    first, *rest = (versions / "old.csv").read_text().splitlines()
    other = tmp_path / "other.csv"
    other.write_text("\n".join([first, *(f"again {line}" for line in rest)]) + "\n")
    with Bank.open(versions / "bank") as bank:
        try:
            bank.add("colour", data=other, train=SHORT, new_version=True)
            bank.retrain_router()
            report = bank.forgetting_report(from_router=1)
        finally:
            bank.restore(versions / "before.db")
    (task,) = report.tasks
    assert (task.verdict_routed, task.change) == ("inconclusive", None)
    assert report.verdict == "inconclusive"
    assert "no evaluation row in common" in reason(task, report.margin)
    assert "experts of colour before and now share no evaluation row" in summary(report)
