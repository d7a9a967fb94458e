"""The report's figures, counted again from the stored evidence; and what --verify finds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import load
from small_bank import SHORT, TASKS, add, content, tamper, write_task

from expertbank import Bank
from expertbank.errors import IntegrityError
from expertbank.files.header import read_header


def _object(home: Path, digest: str) -> Path:
    return home / "objects" / digest[:2] / f"{digest}.safetensors"


@pytest.mark.parametrize("reported", [1, 2, 3])
def test_the_figures_equal_an_independent_recount(reported: int, job: Path) -> None:
    home = job / "bank"
    with Bank.open(home) as bank:
        bank.set_alias("active", reported)
        report = bank.forgetting_report().to_dict()
        routers = {router.version: router for router in bank.routers()}
        expected: dict[str, dict[str, float]] = {}
        matrix: dict[int, dict[str, float]] = {version: {} for version in routers}
        for task in routers[reported].members:
            name = task.partition("@")[0]
            (oracle,) = bank.registry.evaluations(task, router_version="oracle")
            stored = load(_object(home, oracle.artifact_digest).read_bytes())
            right = stored["logits"].argmax(1) == stored["targets"]
            chose: dict[int, list[str]] = {}
            for version in range(1, reported + 1):
                for held in bank.registry.evaluations(task, router_version=version):
                    data = _object(home, held.artifact_digest).read_bytes()
                    chosen = read_header(data, "test").metadata["chosen"]
                    chose[version] = [f"{chosen[place]}@1" for place in load(data)["choice"]]
            hits = {
                v: [r and c == task for r, c in zip(right, cs, strict=True)]
                for v, cs in chose.items()
            }
            for version, hit in hits.items():
                matrix[version][name] = float(np.mean(hit))
            first = min(chose)
            expected[name] = {
                "n": len(right),
                "at_add": float(np.mean(right)),
                "oracle": float(np.mean(right)),
                "routed_at_add": float(np.mean(hits[first])),
                "routed": float(np.mean(hits[reported])),
                "flip_rate": float(
                    np.mean([a != b for a, b in zip(chose[first], chose[reported], strict=True)])
                ),
            }
    lines = {task["task"]: task for task in report["tasks"]}
    assert set(lines) == set(TASKS)
    for name in set(lines) - set(expected):
        assert lines[name]["oracle"] == lines[name]["at_add"]
        assert [lines[name][key] for key in ("routed_at_add", "routed", "flip_rate")] == [None] * 3
    for name, figures in expected.items():
        assert {key: lines[name][key] for key in figures} == pytest.approx(figures)
    order = [task["task"] for task in report["tasks"]]
    assert report["routers"] == sorted(v for v in matrix if v <= reported)
    for version, row in zip(report["routers"], report["matrix"], strict=True):
        assert row == [matrix[version].get(name) for name in order]
    last = matrix[reported]
    assert report["average_accuracy"] == pytest.approx(np.mean(list(last.values())))
    assert report["routing_regret"] == pytest.approx(
        np.mean([figures["oracle"] - figures["routed"] for figures in expected.values()])
    )
    earlier = {
        name: [matrix[v][name] for v in sorted(matrix) if v < reported and name in matrix[v]]
        for name in last
    }
    old = {name: values for name, values in earlier.items() if values}
    if old:
        transfer = np.mean([last[name] - values[0] for name, values in old.items()])
        assert report["backward_transfer"] == pytest.approx(transfer)
        lost = np.mean([max(values) - last[name] for name, values in old.items()])
        assert report["forgetting"] == pytest.approx(lost)
    else:
        assert report["backward_transfer"] is None
        assert report["forgetting"] is None


def test_the_data_of_the_recount_is_not_trivial(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        report = bank.forgetting_report()
    assert any(task.flip_rate for task in report.tasks)
    assert any(task.oracle != task.routed for task in report.tasks)


def test_verify_runs_every_row_again_and_finds_it_unchanged(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        stored = bank.forgetting_report().to_dict()
        measured = bank.forgetting_report(verify=True).to_dict()
        assert bank.verify().ok
    for before, now in zip(stored["tasks"], measured["tasks"], strict=True):
        found = measured["verification"][now["task"]]
        assert found["rows"] == now["n"]
        assert found["unverifiable"] == 0
        assert found["within_tolerance"] == []
        assert found["same_environment"] is True
        assert found["max_logit_difference"] == 0
        assert (before["oracle_source"], now["oracle_source"]) == ("stored", "measured")
        assert now["oracle"] == before["oracle"]
    assert measured["matrix"] == stored["matrix"]


def test_a_tampered_expert_is_reported_as_changed(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        (expert,) = bank.experts("films")
        tamper(_object(job / "bank", expert.digest))
        for verify in (False, True):
            report = bank.forgetting_report(verify=verify)
            assert not report.weights_unchanged
            verdicts = {task.task: task.verdict_expert for task in report.tasks}
            assert verdicts == {"films": "changed", "games": "identical", "laws": "identical"}
        assert not bank.verify().ok
        with pytest.raises(IntegrityError, match=expert.digest):
            bank.predict(["a good film"], task="films")


@pytest.mark.parametrize("which", ["oracle", "routed"])
def test_edited_evidence_is_refused(which: str, job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        kind = "oracle" if which == "oracle" else "routed"
        evaluation = bank.registry.evaluations("films", router_version=kind)[-1]  # type: ignore[arg-type]
        tamper(_object(job / "bank", evaluation.artifact_digest))
        for verify in (False, True):
            with pytest.raises(IntegrityError, match=evaluation.artifact_digest):
                bank.forgetting_report(verify=verify)
        assert [p.where for p in bank.verify().problems] == [evaluation.artifact_digest]


@pytest.mark.parametrize("kind", ["features", "router"])
def test_damaged_features_or_router_are_refused(kind: str, job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        digest = (
            bank.registry.feature_set("films").digest
            if kind == "features"
            else bank.registry.router().digest
        )
        tamper(_object(job / "bank", digest))
        use = bank.retrain_router if kind == "features" else lambda: bank.predict(["sky"])
        with pytest.raises(IntegrityError, match=digest):
            use()


def test_a_file_swapped_for_another_valid_expert_is_noticed(job: Path) -> None:
    with Bank.open(job / "bank") as bank:
        films, laws = bank.experts("films")[0], bank.experts("laws")[0]
        path = _object(job / "bank", films.digest)
        tamper(path, like=_object(job / "bank", laws.digest).read_bytes())
        assert not bank.forgetting_report().weights_unchanged


def _swap_weights(backbone: Path, tmp_path: Path) -> None:
    """Other weights in the same file, of the same size and time: what the cache goes by."""
    path = backbone / "model.safetensors"
    state = path.stat()
    other = tiny.build(tmp_path / "other", "bert", seed=1) / "model.safetensors"
    assert other.stat().st_size == state.st_size
    path.write_bytes(other.read_bytes())
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_verify_notices_swapped_backbone_weights_and_names_both_digests(
    own_backbone: Path, tmp_path: Path
) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(own_backbone)) as bank:
        add(bank, "films", tmp_path)
        bank.retrain_router()
    # A second command, so that the digest is in the cache.
    with Bank.open(tmp_path / "bank") as bank:
        add(bank, "laws", tmp_path)
        recorded = bank.registry.backbone()
    assert recorded is not None
    _swap_weights(own_backbone, tmp_path)
    with Bank.open(tmp_path / "fresh", backbone=str(own_backbone)) as other:
        swapped = other.init().digest
    with (
        Bank.open(tmp_path / "bank") as bank,
        pytest.raises(IntegrityError, match=f"(?s){swapped}.*{recorded.digest}"),
    ):
        bank.forgetting_report(verify=True)


def test_rows_whose_source_is_gone_are_counted_and_not_a_failure(job: Path) -> None:
    (job / "films.csv").unlink()
    lines = (job / "laws.csv").read_text().splitlines()
    (job / "laws.csv").write_text("\n".join([lines[0], *lines[1:41]]) + "\n")
    # The bank was copied: its recorded sources are elsewhere and still whole.
    with Bank.open(job / "bank2", backbone=_backbone_of(job)) as bank:
        for task in ("films", "laws"):
            write_task(job / f"{task}2.csv", task)
            bank.add(task, data=job / f"{task}2.csv", train=SHORT)
        bank.retrain_router()
        (job / "films2.csv").unlink()
        (job / "laws2.csv").write_text("\n".join([lines[0], *lines[1:41]]) + "\n")
        report = bank.forgetting_report(verify=True).to_dict()
    films, laws = report["verification"]["films"], report["verification"]["laws"]
    n = {task["task"]: task["n"] for task in report["tasks"]}
    assert (films["rows"], films["unverifiable"]) == (0, n["films"])
    assert 0 < laws["unverifiable"] < n["laws"]
    assert laws["rows"] + laws["unverifiable"] == n["laws"]
    assert report["weights_unchanged"] is True
    assert {task["oracle_source"] for task in report["tasks"]} == {"stored"}


def _backbone_of(job: Path) -> str:
    with Bank.open(job / "bank", read_only=True) as bank:
        record = bank.backbone()
    assert record is not None
    return record.reference


def test_a_report_reads_only(job: Path) -> None:
    before = content(job / "bank")
    with Bank.open(job / "bank", read_only=True) as bank:
        bank.forgetting_report(verify=True)
        bank.predict(["a good film"])
        bank.verify()
        assert len(bank.tasks()) == len(TASKS)
    assert content(job / "bank") == before
