"""Experts of different kinds of adapter in one bank: the whole job, and the same answers after."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_bank import TASKS, texts, write_task

from expertbank import AdapterConfig, Bank, Row, TrainConfig, load_bundle
from expertbank.adapters import ADAPTERS
from expertbank.errors import InputError, NotFoundError
from expertbank.files.tensors import read_safetensors, read_tensors

WISHES = {
    "films": AdapterConfig(kind="lora", rank=2),
    "laws": AdapterConfig(tt_rank=(4, 2, 3)),
    "games": AdapterConfig(kind="uni-lora"),
}


@pytest.fixture(scope="module")
def mixed(backbone_folder: Callable[[str], Path], tmp_path_factory) -> Path:
    """A bank of three kinds, its bundle, its PEFT folder, and a bank that imported them."""
    folder = tmp_path_factory.mktemp("mixed")
    backbone = str(backbone_folder("bert"))
    with Bank.open(folder / "bank", backbone=backbone) as bank:
        for task in TASKS:
            data = write_task(folder / f"{task}.csv", task)
            bank.add(task, data=data, adapter=WISHES[task], train=TrainConfig(epochs=2))
            bank.retrain_router()
        bank.export(folder / "bundle", for_import=True)
        bank.export(folder / "peft", format="peft")
    with Bank.open(folder / "other", backbone=backbone) as other:
        other.import_bundle(folder / "bundle")
        other.retrain_router()
    return folder


def test_bank_bundle_and_the_bank_that_imported_answer_alike_in_mixed_batches(mixed: Path) -> None:
    rows = [Row(text) for text in texts()]
    with Bank.open(mixed / "bank") as bank, Bank.open(mixed / "other") as other:
        here = bank.predict(rows)
        assert other.predict(rows) == here
        named = [bank.predict([row], task=one.task)[0] for row, one in zip(rows, here, strict=True)]
    assert list(load_bundle(mixed / "bundle").predict(rows)) == here
    assert {answer.task for answer in here} == set(TASKS), "one batch, experts of every kind"
    for alone, among in zip(named, here, strict=True):
        assert alone.scores == pytest.approx(among.scores, abs=1e-5)


def test_nothing_is_forgotten_and_every_row_computes_again(mixed: Path) -> None:
    with Bank.open(mixed / "bank") as bank:
        report = bank.forgetting_report(verify=True)
        assert bank.verify().ok
    assert report.weights_unchanged
    document = report.to_dict()
    assert all(one["max_logit_difference"] == 0 for one in document["verification"].values())


def test_the_lora_folders_hold_each_experts_update(mixed: Path) -> None:
    ranks = {"films": 2, "laws": 2, "games": 4}
    with Bank.open(mixed / "bank") as bank:
        for task, rank in ranks.items():
            config = json.loads((mixed / "peft" / task / "adapter_config.json").read_text())
            assert config["r"] == rank
            data = (mixed / "peft" / task / "adapter_model.safetensors").read_bytes()
            tensors = read_tensors(data, task)
            file = bank._workspace.expert_file(bank.registry.expert(f"{task}@1"))
            with torch.no_grad():
                for path, (a, b) in file.adapter().collapse().items():
                    name = f"base_model.model.{path}"
                    lora_b, lora_a = (tensors[f"{name}.lora_{x}.weight"] for x in "BA")
                    torch.testing.assert_close((lora_b @ lora_a).T, a @ b)


def test_lineage_tells_kind_and_settings_here_and_where_it_was_imported(mixed: Path) -> None:
    for name in ("bank", "other"):
        with Bank.open(mixed / name) as bank:
            for task, wish in WISHES.items():
                run = bank.registry.run(bank.registry.expert(f"{task}@1").run_id or 0)
                told = run.config["adapter"]
                assert told["kind"] == wish.kind
                assert told["alpha"] == 4.0
                size = told["tt_rank"] if wish.kind == "tt" else told["rank"]
                assert size == (4 if wish.kind == "uni-lora" else [4, 2, 3] if wish.tt_rank else 2)


def test_a_trains_file_is_as_it_was_and_others_name_their_kind(mixed: Path) -> None:
    """Files of format 1 are what every earlier expertbank wrote and reads."""
    with Bank.open(mixed / "bank") as bank:
        facts = {}
        for task in TASKS:
            data = bank._workspace.store.get(bank.registry.expert(f"{task}@1").digest)
            facts[task] = read_safetensors(data, task)[1]
    assert facts["laws"]["format"] == 1
    assert set(facts["laws"]) == {
        *("format", "task", "kind", "labels", "groups", "alpha", "pooling"),
        *("feature_spec_digest", "backbone_digest"),
    }
    assert {facts[task]["format"] for task in ("films", "games")} == {2}
    assert facts["films"]["adapter"]["kind"] == "lora"
    assert facts["games"]["adapter"]["kind"] == "uni-lora"


@pytest.mark.parametrize("kind", ["lora", "uni-lora"])
def test_the_same_seed_gives_the_same_expert_of_every_kind(
    kind: str, backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    data, digests = write_task(tmp_path / "films.csv", "films"), []
    for name in ("one", "two"):
        with Bank.open(tmp_path / name, backbone=str(backbone_folder("bert"))) as bank:
            wish = AdapterConfig(kind=kind, rank=2)
            added = bank.add("films", data=data, adapter=wish, train=TrainConfig(epochs=1))
            digests.append(added.expert.digest)
            assert added.adapter == ADAPTERS.get(kind).settled(replace(wish, alpha=4.0))
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("kind", "said"), [("lore", "did you mean lora"), ("nope", "known: lora, (?!.*none)")]
)
def test_a_kind_that_is_not_here_is_refused_before_data_is_read_with_those_that_can_be_trained(
    kind: str, said: str, backbone_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with (
        Bank.open(tmp_path / "bank", backbone=str(backbone_folder("bert"))) as bank,
        pytest.raises(InputError, match=f"no adapter kind named '{kind}'; {said}"),
    ):
        bank.add("films", data="nowhere.csv", adapter=AdapterConfig(kind=kind))


def test_a_file_of_a_kind_that_is_not_here_says_which(mixed: Path) -> None:
    from expertbank.models.expert_file import ExpertFile

    with Bank.open(mixed / "bank") as bank:
        data = bank._workspace.store.get(bank.registry.expert("films@1").digest)
    odd = data.replace(b'"kind\\":\\"lora\\"', b'"kind\\":\\"lore\\"')
    assert odd != data
    with pytest.raises(NotFoundError, match="no adapter kind named 'lore'"):
        ExpertFile.from_bytes(odd, "somewhere")
