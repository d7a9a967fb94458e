"""A bank that keeps statistics only: no row in any form, and a report that asks the source."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load
from small_bank import TASKS, add, texts, write_task

from expertbank import Bank, RouterConfig
from expertbank.errors import FeatureSpecError, InputError

FolderOf = Callable[[str], Path]


@pytest.fixture(scope="session")
def made_stats(backbone_folder: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a bank of three tasks that keeps statistics, with a router."""
    folder = tmp_path_factory.mktemp("stats")
    with Bank.open(folder / "bank", backbone=str(backbone_folder("bert"))) as bank:
        bank.init(keep="stats")
        for task in TASKS:
            add(bank, task, folder)
        bank.retrain_router()
    return folder


def test_no_file_holds_a_feature_or_text_of_a_row(made_stats: Path) -> None:
    with Bank.open(made_stats / "bank", read_only=True) as bank:
        dimension = bank.registry.feature_set("films@1").dimension
        width = len(bank._workspace.spec.states) * 2 * 32
        for expert in bank.experts():
            stored = bank.registry.feature_set(expert.id)
            assert (stored.n_eval, stored.n_train) == (0, 80 * 4 // 5)
            tensors = load(bank._workspace.store.get(stored.digest))
            sizes = {name: tensor.numel() for name, tensor in tensors.items()}
            sums = {"total": dimension, "gram": dimension * (dimension + 1) // 2}
            rows = ("rows", "row_shapes", "row_tokens", "spans", "span_shapes", "span_tokens")
            assert sizes == {**sums, **dict.fromkeys(rows, 0)}
    rows = [row for task in TASKS for row in (made_stats / f"{task}.csv").read_text().split("\n")]
    texts_of_rows = [row.rpartition(",")[0].encode() for row in rows[1:] if len(row) > 20]
    for path in (made_stats / "bank").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(text in data for text in texts_of_rows), path
            if path.suffix == ".safetensors":
                # Square ones are Gram matrices and what is made of them.
                shapes = {tuple(t.shape) for t in load(data).values()} - {(width, width)}
                assert not any(shape[1:] == (width,) and shape[0] > 5 for shape in shapes)


def test_its_router_routes_and_its_report_reads_the_source(made_stats: Path) -> None:
    with Bank.open(made_stats / "bank", read_only=True) as bank:
        answers = bank.predict(texts(45))
        report = bank.forgetting_report()
    assert {answer.task for answer in answers} == set(TASKS)
    assert all(type(answer.unknown) is bool for answer in answers)
    assert all(task.routed is not None and task.routed > 0.3 for task in report.tasks)


def test_where_the_source_is_gone_the_report_has_no_routed_figures(
    made_stats: Path, tmp_path: Path
) -> None:
    hidden = made_stats / "films.csv"
    kept = shutil.move(hidden, tmp_path / "films.csv")
    try:
        with Bank.open(made_stats / "bank", read_only=True) as bank:
            found = {task.task: task for task in bank.forgetting_report().tasks}
    finally:
        shutil.move(kept, hidden)
    assert found["films"].routed is None
    assert found["films"].oracle is not None
    assert found["laws"].routed is not None


def test_its_report_stays_when_the_files_of_a_removed_task_are_deleted(
    made_stats: Path, tmp_path: Path
) -> None:
    shutil.copytree(made_stats / "bank", tmp_path / "bank")
    with Bank.open(tmp_path / "bank") as bank:
        before = bank.forgetting_report()
        bank.remove("games")
        bank.retrain_router()
        assert bank.gc(purge_removed=True).purged == ("games",)
        report = bank.forgetting_report()
        assert {task.task for task in report.tasks} == {"films", "laws"}
        assert {task.oracle for task in report.tasks} <= {task.oracle for task in before.tasks}
        assert all(task.routed is not None for task in report.tasks)
        add(bank, "games", made_stats, new_version=True)
        bank.retrain_router()
        assert {task.expert for task in bank.forgetting_report(verify=True).tasks} == {
            *("films@1", "laws@1", "games@2")
        }


def test_its_experts_in_a_bank_that_keeps_features_may_be_deleted_there(
    made_stats: Path, job: Path, tmp_path: Path
) -> None:
    with Bank.open(job / "bank") as bank:
        bank.export(tmp_path / "sums", for_import=True, statistics=True)
    with Bank.open(tmp_path / "bank", create=True) as bank:
        bank.import_bundle(tmp_path / "sums", tasks=["games"])
        for task in ("films", "laws"):
            add(bank, task, made_stats)
        bank.retrain_router()
        before = bank.forgetting_report()
        bank.remove("games")
        bank.retrain_router()
        assert bank.gc(purge_removed=True).purged == ("games",)
        after = bank.forgetting_report()
    assert {task.task for task in before.tasks} == {"films", "laws", "games"}
    assert {task.task for task in after.tasks} == {"films", "laws"}


def test_retraining_again_gives_the_same_router_and_reads_no_row(made_stats: Path) -> None:
    with Bank.open(made_stats / "bank") as bank:
        first = bank.registry.router()
        again = bank.retrain_router()
    assert again.router.digest == first.digest
    assert again.old_texts_read == 0
    assert again.metrics["accuracy"] is None


def test_gates_that_need_rows_and_another_keep_are_refused(made_stats: Path) -> None:
    with Bank.open(made_stats / "bank") as bank:
        for kind in ("noisy-top1", "mlp"):
            with pytest.raises(InputError, match="statistics only; possible here: lda, ridge"):
                bank.retrain_router(config=RouterConfig(kind))
        with pytest.raises(FeatureSpecError, match="keep stats, not features"):
            bank.init(keep="features")


def test_a_task_of_a_handful_of_rows_is_refused_before_training(
    made_stats: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "films.csv", "films", 18)
    with Bank.open(made_stats / "bank") as bank, pytest.raises(InputError, match="give the rows"):
        bank.add("tiny", data=data)
