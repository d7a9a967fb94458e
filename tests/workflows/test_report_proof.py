"""What the report notices: edited rows of the database, swapped files, other answers, samples."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save
from small_bank import SHORT, TASKS, add, tamper

from expertbank import Bank
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.evaluation.evidence import RoutedEvidence
from expertbank.evaluation.predictions import Predictions


def _object(home: Path, digest: str) -> Path:
    return home / "objects" / digest[:2] / f"{digest}.safetensors"


def _edit(home: Path, statement: str, *values: object) -> None:
    """Change a row as somebody would who knows SQLite: triggers away, edit, triggers back."""
    with sqlite3.connect(home / "registry.db") as database:
        database.execute("PRAGMA foreign_keys = OFF")
        kept = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        triggers = kept.fetchall()
        for name, _ in triggers:
            database.execute(f'DROP TRIGGER "{name}"')
        assert database.execute(statement, values).rowcount == 1
        for _, sql in triggers:
            database.execute(sql)


def _put(home: Path, data: bytes) -> str:
    digest = sha256_bytes(data)
    path = _object(home, digest)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with sqlite3.connect(home / "registry.db") as database:
        database.execute(
            "INSERT OR IGNORE INTO artifacts (digest, kind, bytes, created_at) VALUES (?, ?, ?, ?)",
            (digest, "oracle", len(data), ""),
        )
    return digest


def _evaluation(home: Path, task: str, version: int | None):
    with Bank.open(home, read_only=True) as bank:
        of = "oracle" if version is None else version
        return bank.registry.evaluations(task, router_version=of)[-1]  # type: ignore[arg-type]


@pytest.mark.parametrize("version", [None, 1, 3])
@pytest.mark.parametrize("column", ["correct", "metrics"])
def test_an_edited_count_or_figure_is_caught_without_running_anything(
    version: int | None, column: str, job: Path
) -> None:
    home = job / "bank"
    found = _evaluation(home, "films", version)
    figure = "accuracy" if version is None else "quality"
    metrics = json.dumps({**found.metrics, figure: 0.999}, sort_keys=True)
    value = found.correct + 1 if column == "correct" else metrics
    _edit(home, f"UPDATE evaluations SET {column} = ? WHERE id = ?", value, found.id)
    with Bank.open(home) as bank, pytest.raises(IntegrityError, match="films@1"):
        bank.forgetting_report()


def test_an_experts_digest_edited_to_another_valid_file_is_caught_by_the_routers(job: Path) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        films, laws = bank.experts("films")[0], bank.experts("laws")[0]
    _edit(
        home,
        "UPDATE experts SET digest = ? WHERE digest = ?",
        laws.digest,
        films.digest,
    )
    with Bank.open(home) as bank, pytest.raises(IntegrityError, match=r"films@1.*digest"):
        bank.forgetting_report()


def test_a_routers_list_edited_in_the_database_is_caught(job: Path) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        one, two = bank.routers()[0], bank.routers()[-1]
    assert one.members != two.members
    _edit(
        home,
        "DELETE FROM router_members WHERE position = 2 AND router_id = "
        "(SELECT id FROM routers WHERE version = ?)",
        two.version,
    )
    with Bank.open(home) as bank, pytest.raises(IntegrityError, match="members"):
        bank.forgetting_report()


def test_a_damaged_router_file_is_caught_by_the_report(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        digest = bank.registry.router().digest
        tamper(_object(job / "bank", digest))
        with pytest.raises(IntegrityError, match=digest):
            bank.forgetting_report()


def _forge_answer(home: Path, task: str, place: int) -> str:
    """Stored answers that differ in one row, with a digest and a count that fit them."""
    found = _evaluation(home, task, None)
    data = _object(home, found.artifact_digest).read_bytes()
    oracle = Predictions.from_bytes(data, "test")
    logits = oracle.logits.copy()
    logits[place] = logits[place][::-1] + np.array([0.0, 1e-3], dtype=np.float32)
    forged = Predictions(logits, oracle.targets, oracle.row_digests, oracle.clusters)
    metrics = {
        **found.metrics,
        "accuracy": float((forged.logits.argmax(1) == forged.targets).mean()),
    }
    digest = _put(home, forged.to_bytes())
    text = json.dumps(metrics, sort_keys=True)
    _edit(
        home,
        "UPDATE evaluations SET artifact_digest = ?, correct = ?, metrics = ? WHERE id = ?",
        digest,
        int((forged.logits.argmax(1) == forged.targets).sum()),
        text,
        found.id,
    )
    return oracle.row_digests[place]


def test_forged_answers_are_caught_by_verify_which_names_the_first_row(job: Path) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        bank.set_alias("active", 2)  # a router that does not know games: only answers are forged
    second, first = _forge_answer(home, "games", 9), _forge_answer(home, "games", 4)
    with Bank.open(home) as bank:
        bank.forgetting_report()  # the forger was careful: nothing to see without the model
        with pytest.raises(IntegrityError) as caught:
            bank.forgetting_report(verify=True)
    assert first[:12] in str(caught.value)
    assert second[:12] not in str(caught.value)
    assert "games.csv" in str(caught.value)


def test_forged_choices_are_caught_even_where_only_one_row_is_run_again(job: Path) -> None:
    home = job / "bank"
    found = _evaluation(home, "films", 3)
    tensors = load(_object(home, found.artifact_digest).read_bytes())
    oracle_at = _evaluation(home, "films", None).artifact_digest
    oracle = Predictions.from_bytes(_object(home, oracle_at).read_bytes(), "test")
    with Bank.open(home) as bank:
        place = bank.registry.router(3).members.index("films@1")
    choice = tensors["choice"].copy()
    # A row that went elsewhere is said to have come home: a better figure, forged throughout.
    rows = np.flatnonzero((choice != place) & np.asarray(oracle.logits.argmax(1) == oracle.targets))
    assert len(rows), "the bank of this test misroutes some rows"
    choice[rows[-1]] = place
    forged = RoutedEvidence(choice, tensors["confidence"])
    digest = _put(home, forged.to_bytes())
    _edit(
        home,
        "UPDATE evaluations SET artifact_digest = ?, correct = ?, metrics = ? WHERE id = ?",
        digest,
        found.correct + 1,
        json.dumps({**found.metrics, "quality": (found.correct + 1) / found.n}, sort_keys=True),
        found.id,
    )
    with Bank.open(home) as bank:
        bank.forgetting_report()
        with pytest.raises(IntegrityError, match=oracle.row_digests[rows[-1]][:12]):
            bank.forgetting_report(verify=True, sample=1)


def test_evidence_of_a_release_that_also_kept_choices_without_the_mask_gives_the_same_report(
    job: Path,
) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        expected = bank.forgetting_report().to_dict()
    found = _evaluation(home, "films", 3)
    tensors = load(_object(home, found.artifact_digest).read_bytes())
    metadata = {"expertbank": json.dumps({"format": 1, "evidence": "routed"})}
    old = save({**tensors, "free_choice": np.zeros_like(tensors["choice"])}, metadata=metadata)
    _edit(
        home,
        "UPDATE evaluations SET artifact_digest = ?, metrics = ? WHERE id = ?",
        _put(home, old),
        json.dumps({**found.metrics, "quality_unmasked": 0.125}, sort_keys=True),
        found.id,
    )
    with Bank.open(home) as bank:
        assert bank.forgetting_report().to_dict()["tasks"] == expected["tasks"]
        assert bank.forgetting_report(verify=True).average_accuracy is not None
        assert bank.verify().ok


def test_a_sample_is_always_the_same_rows_of_every_task(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        one = bank.forgetting_report(verify=True, sample=5).to_dict()
        two = bank.forgetting_report(verify=True, sample=5).to_dict()
        whole = bank.forgetting_report(verify=True, sample=10_000).to_dict()
    assert one == two
    for line in one["tasks"]:
        found = one["verification"][line["task"]]
        assert (found["rows"], found["of"], found["unverifiable"]) == (5, line["n"], 0)
        assert line["oracle_source"] == "stored", "a sample does not measure the whole"
        assert whole["verification"][line["task"]]["rows"] == line["n"]
    assert {line["oracle_source"] for line in whole["tasks"]} == {"measured"}


def test_an_edited_row_of_the_data_is_unverifiable_and_counted(job: Path) -> None:
    with Bank.open(job / "bank", read_only=True) as bank:
        run = bank.registry.run(bank.experts("laws")[0].run_id)  # type: ignore[arg-type]
        backbone = bank.backbone()
    assert backbone is not None
    source = Path(str(run.data["source"]).removeprefix("file:"))
    assert source.exists()
    with Bank.open(job / "own", backbone=backbone.reference) as bank:
        add(bank, "laws", job)
        bank.retrain_router()
        digests = {
            digest
            for evaluation in bank.registry.evaluations("laws", router_version="oracle")
            for digest in Predictions.from_bytes(
                bank._workspace.store.get(evaluation.artifact_digest), "test"
            ).row_digests
        }
        with (job / "laws.csv").open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        from expertbank import Row

        edited = 0
        for row in rows:
            if Row(row[0], label=row[1]).digest in digests and edited < 2:
                row[0] += " river"
                edited += 1
        assert edited == 2
        with (job / "laws.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])
        found = bank.forgetting_report(verify=True).to_dict()["verification"]["laws"]
    assert found["unverifiable"] == 2
    assert found["rows"] == found["of"] - 2


def test_options_that_cannot_be_are_refused(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        for wrong in ({"margin": 0.0}, {"margin": 1.0}, {"sample": 3}):
            with pytest.raises(InputError):
                bank.forgetting_report(**wrong)
        with pytest.raises(NotFoundError):
            bank.forgetting_report(from_router="router@9")


def test_a_later_version_is_compared_on_the_rows_both_were_measured_on(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        bank.add(
            "films",
            data=job / "films.csv",
            train=SHORT,
            new_version=True,
        )
        bank.retrain_router()
        lines = {t.task: t for t in bank.forgetting_report(from_router=3).tasks}
        first = {t.task: t for t in bank.forgetting_report().tasks}
    films = lines["films"]
    assert (films.expert, films.start) == ("films@2", 3)
    assert films.change is not None
    assert films.change.flips == films.change.n == films.n
    assert first["films"].start == 4, "a new expert's first router is its own"
    assert set(lines) == set(TASKS)


def test_lineage_names_every_file_behind_the_figures(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        lineage = bank.forgetting_report().lineage
        backbone, routers = bank.backbone(), bank.routers()
        experts = {expert.id: expert.digest for expert in bank.experts()}
    assert lineage is not None
    assert backbone is not None
    assert lineage.backbone_digest == backbone.digest
    assert {e.id: e.digest for e in lineage.experts} == experts
    assert [r.digest for r in lineage.routers] == [r.digest for r in routers]
    assert all(len(e.data["validation"]) == 64 for e in lineage.experts)
