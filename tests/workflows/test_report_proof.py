"""What the report notices: edited rows of the database, swapped files, other answers, samples."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from full_storage import as_before, put, without_triggers
from safetensors.numpy import load, save
from small_bank import SHORT, TASKS, add, tamper

from expertbank import Bank
from expertbank.errors import InputError, IntegrityError, NotFoundError
from expertbank.evaluation.evidence import RoutedEvidence, summary
from expertbank.evaluation.predictions import Predictions


def _object(home: Path, digest: str) -> Path:
    return home / "objects" / digest[:2] / f"{digest}.safetensors"


def _edit(home: Path, statement: str, *values: object) -> None:
    """Change a row as somebody would who knows SQLite: triggers away, edit, triggers back."""
    with without_triggers(home) as database:
        assert database.execute(statement, values).rowcount == 1


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


@pytest.mark.parametrize(
    ("column", "value"), [("labels", '["sweet", "sour"]'), ("kind", "multiple_choice")]
)
def test_labels_edited_in_the_database_are_caught_before_any_row_is_run(
    column: str, value: str, job: Path
) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        digest = bank.experts("films")[0].digest
    _edit(home, f"UPDATE experts SET {column} = ? WHERE digest = ?", value, digest)
    (job / "films.csv").unlink()
    with Bank.open(home) as bank:
        assert not bank.verify().ok
        with pytest.raises(IntegrityError, match=rf"films@1: its file has {column} .*restore"):
            bank.forgetting_report(verify=True)


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


def test_a_routers_groups_edited_in_the_database_are_caught(job: Path) -> None:
    home = job / "bank"
    for position in (0, 1):
        _edit(
            home,
            "UPDATE router_members SET group_name = 'forged' WHERE position = ? AND router_id = "
            "(SELECT max(id) FROM routers)",
            position,
        )
    with Bank.open(home) as bank, pytest.raises(IntegrityError, match="other groups"):
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
    right = logits.argmax(1) == oracle.targets
    metrics = {**found.metrics, "accuracy": float(right.mean())}
    digest = put(home, forged.to_bytes(), "oracle")
    text = json.dumps(metrics, sort_keys=True)
    _edit(
        home,
        "UPDATE evaluations SET artifact_digest = ?, correct = ?, metrics = ? WHERE id = ?",
        digest,
        int(right.sum()),
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


def _forge_choice(home: Path) -> str:
    """A row of films that went elsewhere is said to have come home: a better figure, with a digest
    and a count that fit it. Gives the row's digest."""
    found = _evaluation(home, "films", 3)
    data = _object(home, found.artifact_digest).read_bytes()
    stored = RoutedEvidence.from_bytes(data, "test", ())
    oracle_at = _evaluation(home, "films", None).artifact_digest
    oracle = Predictions.from_bytes(_object(home, oracle_at).read_bytes(), "test")
    own = stored.chosen.index("films")
    right = np.asarray(oracle.logits.argmax(1) == oracle.targets)
    rows = np.flatnonzero((stored.index != own) & right)
    assert len(rows), "the bank of this test misroutes some rows"
    index = stored.index.copy()
    index[rows[-1]] = own
    digest = put(home, RoutedEvidence(stored.chosen, index).to_bytes())
    _edit(
        home,
        "UPDATE evaluations SET artifact_digest = ?, correct = ?, metrics = ? WHERE id = ?",
        digest,
        found.correct + 1,
        json.dumps({**found.metrics, "quality": (found.correct + 1) / found.n}, sort_keys=True),
        found.id,
    )
    return oracle.row_digests[rows[-1]]


def test_forged_choices_are_not_those_that_the_router_was_registered_with(job: Path) -> None:
    _forge_choice(job / "bank")
    with Bank.open(job / "bank") as bank, pytest.raises(IntegrityError, match="registered with"):
        bank.forgetting_report()


def test_forged_choices_are_caught_even_where_only_one_row_is_run_again(job: Path) -> None:
    home = job / "bank"
    row = _forge_choice(home)
    with Bank.open(home) as bank:
        # The forger was careful: what the routers' runs say of their evidence is forged too.
        for router in bank.routers():
            rows = bank.registry.evaluations(router_version=router.version)
            said = summary({one.expert_id: one.artifact_digest for one in rows})
            run = bank.registry.run(router.run_id)  # type: ignore[arg-type]
            data = json.dumps({**run.data, "evidence": said})
            _edit(home, "UPDATE runs SET data = ? WHERE id = ?", data, run.id)
        bank.forgetting_report()
        with pytest.raises(IntegrityError, match=row[:12]):
            bank.forgetting_report(verify=True, sample=1)


@pytest.mark.parametrize("which", ["MIN", "MAX"])
def test_a_measurement_that_was_taken_out_is_missed(which: str, job: Path) -> None:
    home = job / "bank"
    _edit(
        home,
        f"DELETE FROM evaluations WHERE id = (SELECT {which}(id) FROM evaluations "
        "WHERE router_version IS NOT NULL)",
    )
    with Bank.open(home) as bank, pytest.raises(IntegrityError, match="db --help"):
        bank.forgetting_report()


def test_evidence_of_a_release_that_also_kept_choices_without_the_mask_gives_the_same_report(
    job: Path,
) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        expected = bank.forgetting_report().to_dict()
    as_before(home)
    found = _evaluation(home, "films", 3)
    tensors = load(_object(home, found.artifact_digest).read_bytes())
    metadata = {"expertbank": json.dumps({"format": 1, "evidence": "routed"})}
    old = save({**tensors, "free_choice": np.zeros_like(tensors["choice"])}, metadata=metadata)
    _edit(
        home,
        "UPDATE evaluations SET artifact_digest = ?, metrics = ? WHERE id = ?",
        put(home, old),
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
    assert (first["films"].start, first["films"].start_expert) == (1, "films@1")
    assert first["films"].change is not None
    assert first["films"].change.flips == films.n, "a new expert is compared with the first one"
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
