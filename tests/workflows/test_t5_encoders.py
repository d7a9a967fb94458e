"""The encoder of a T5 is a backbone, whether its files hold the decoder too or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from small_bank import SHORT, add, texts
from tiny import CONFIGS, build
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from expertbank import Bank, load_bundle
from expertbank.backbones.backbone import load_backbone
from expertbank.config import AdapterConfig


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 with its decoder and its language-model head, as published ones are."""
    return _whole(tmp_path_factory.mktemp("t5"), "t5")


def _whole(folder: Path, family: str) -> Path:
    build(folder, "t5")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(family, **CONFIGS["t5"]))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5"])
def test_of_a_whole_t5_the_encoder_answers_as_its_own_class_does(
    family: str, tmp_path: Path
) -> None:
    whole = _whole(tmp_path, family)
    found = load_backbone(str(whole), device="cpu")
    model = getattr(transformers, f"{family.upper()}ForConditionalGeneration")
    model = model.from_pretrained(whole).eval()
    ids = torch.tensor([[2, 5, 9, 11, 3, 0], [2, 8, 30, 17, 21, 3]])
    mask = (ids != 0).long()
    with torch.no_grad():
        states = found.model(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = model.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(states, expected)
    assert found.family.pooling == "mean"
    assert not [name for name, _ in found.model.named_parameters() if "decoder" in name]


def test_a_bank_on_a_t5_learns_routes_and_ships(whole: Path, tmp_path: Path) -> None:
    with Bank.open(tmp_path / "bank", backbone=str(whole)) as bank:
        bank.init(max_length=16)
        for task in ("films", "laws"):
            add(bank, task, tmp_path, train=SHORT, adapter=AdapterConfig(tt_rank=3))
        bank.retrain_router()
        answers = bank.predict(texts(8))
        report = bank.forgetting_report(verify=True)
        bank.export(tmp_path / "bundle")
    assert report.weights_unchanged
    shipped = list(load_bundle(tmp_path / "bundle", backbone=str(whole)).predict(texts(8)))
    assert [one.to_dict() for one in shipped] == [one.to_dict() for one in answers]
