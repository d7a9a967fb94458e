"""A bank of route layer 0, the paper's way: two passes, adapters at full depth, its gate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small_bank import SHORT, TASKS, add, texts

from expertbank import AdapterConfig, Bank, Row, load_bundle
from expertbank.backbones.backbone import load_backbone
from expertbank.errors import FeatureSpecError

FolderOf = Callable[[str], Path]


@pytest.mark.parametrize(("family", "pooling"), [("bert", "mean"), ("llama", "last")])
def test_a_bank_of_two_passes_does_the_whole_job(
    backbone_folder: FolderOf, tmp_path: Path, family: str, pooling: str
) -> None:
    folder = backbone_folder(family)
    depth = len(load_backbone(str(folder), device="cpu").layers)
    rows = [Row(text) for text in texts(5)]
    with Bank.open(tmp_path / "bank", backbone=str(folder)) as bank:
        spec = bank.init(route_layer=0).feature_spec
        assert (spec.route_layer, spec.states, spec.poolings) == (0, (depth,), (pooling,))
        for task in TASKS:
            add(bank, task, tmp_path)
        with pytest.raises(FeatureSpecError):
            bank.init(route_layer=1)
        router = bank.retrain_router()
        assert router.router.kind == "noisy-top1"
        answers = list(bank.predictor().predict(rows))
        assert {answer.task for answer in answers} <= set(TASKS)
        report = bank.forgetting_report(verify=True).to_dict()
        assert {task["verdict"]["expert"] for task in report["tasks"]} == {"identical"}
        bank.export(tmp_path / "bundle")
        assert list(load_bundle(tmp_path / "bundle").predict(rows)) == answers
        (expert,) = bank.experts("films")
        adapter = bank.registry.run(expert.run_id).config["adapter"]
        file = bank._workspace.expert_file(expert)
        adapted = {path for group in file.adapter().groups for path in group.paths}
        assert len(adapted) == 2 * depth
        assert (adapter["alpha"], file.alpha) == (16.0, 16.0)
        named = bank.add(
            "films",
            data=tmp_path / "films.csv",
            adapter=AdapterConfig(alpha=2.0),
            train=SHORT,
            new_version=True,
        )
        assert bank._workspace.expert_file(named.expert).alpha == 2.0


def test_elsewhere_alpha_and_gate_keep_their_defaults(made_job: Path) -> None:
    with Bank.open(made_job / "bank", read_only=True) as bank:
        (expert,) = bank.experts("films")
        assert bank._workspace.expert_file(expert).alpha == 4.0
        assert bank.default_gate == bank.routers()[-1].kind == "lda"
