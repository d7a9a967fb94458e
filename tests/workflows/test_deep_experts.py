"""Experts that reach below the route layer, beside others, through the whole job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_bank import SHORT, TASKS, add, texts, write_task

from expertbank import AdapterConfig, Bank, Row, load_bundle
from expertbank.errors import ExpertBankError

FolderOf = Callable[[str], Path]
DEEP = "films"


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_an_expert_of_all_layers_does_the_whole_job_beside_others(
    backbone_folder: FolderOf, tmp_path: Path, family: str
) -> None:
    rows = [Row(text) for text in texts(5)]
    with Bank.open(tmp_path / "bank", backbone=str(backbone_folder(family))) as bank:
        assert bank.init(route_layer=2, max_length=32).feature_spec.route_layer == 2
        for task in TASKS:
            first = 0 if task == DEEP else None
            add(bank, task, tmp_path, adapter=AdapterConfig(first_layer=first))
        (expert,) = bank.experts(DEEP)
        assert bank.registry.run(expert.run_id).config["adapter"]["first_layer"] == 0
        file = bank._workspace.expert_file(expert)
        adapted = {path for group in file.adapter().groups for path in group.paths}
        assert {path.split("layer")[1][:3].strip("s.") for path in adapted} == set("0123")
        assert file.alpha == 4.0, "alpha 16 goes with the paper's two passes"
        bank.retrain_router()
        routed = list(bank.predict(rows))
        assert DEEP in {answer.task for answer in routed} != {DEEP}
        for answer in routed:
            (alone,) = bank.predict([rows[answer.index]], task=answer.task)
            assert alone.label == answer.label
            assert alone.scores == pytest.approx(answer.scores, abs=1e-4)
        report = bank.forgetting_report(verify=True).to_dict()
        assert {task["verdict"]["expert"] for task in report["tasks"]} == {"identical"}
        bank.export(tmp_path / "bundle")
        assert list(load_bundle(tmp_path / "bundle").predict(rows)) == routed
        bank.export(tmp_path / "adapters", format="peft")
    folder = tmp_path / "adapters" / DEEP
    with Bank.open(tmp_path / "other", backbone=str(backbone_folder(family))) as other:
        other.init(route_layer=2, max_length=32)
        data = tmp_path / f"{DEEP}.csv"
        back = other.import_peft(folder, DEEP, data=data, train=SHORT, same_base=True)
        assert back.added.adapter.first_layer == 0
        wanted = [
            alone.scores for alone in load_bundle(tmp_path / "bundle").predict(rows, task=DEEP)
        ]
        for found, scores in zip(other.predict(rows, task=DEEP), wanted, strict=True):
            assert found.scores == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (AdapterConfig(first_layer=4), r"no layer 4 to adapt from.*0 to 3"),
        (AdapterConfig(modules=("nowhere",)), "named 'nowhere'"),
        (AdapterConfig(modules=("dense",), first_layer=9), "no layer 9"),
    ],
)
def test_what_the_backbone_does_not_have_is_refused_before_a_bank_is_made(
    backbone_folder: FolderOf, tmp_path: Path, wish: AdapterConfig, why: str
) -> None:
    data = write_task(tmp_path / f"{DEEP}.csv", DEEP)
    backbone = str(backbone_folder("bert"))
    with (
        Bank.open(tmp_path / "bank", backbone=backbone) as bank,
        pytest.raises(ExpertBankError, match=why),
    ):
        bank.add(DEEP, data=data, adapter=wish, train=SHORT)
    assert not (tmp_path / "bank" / "registry.db").exists()
