"""An export for PEFT takes effect in the model that others load, and export itself proves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from small_bank import add, task_rows

from expertbank import Bank, Row
from expertbank.errors import IntegrityError
from expertbank.workflows.shipping import export_peft

DECODERS = ("llama", "gpt2", "gpt_neox", "opt", "phi3", "bloom", "falcon", "gemma3_text", "qwen3")
DECODERS += ("smollm3", "granite", "gpt_bigcode")
ENCODERS = ("bert", "distilbert", "modernbert", "deberta-v2", "mpnet", "nomic_bert", "eurobert")


def exported(folder: Path, backbone: Path) -> tuple[Path, dict[str, Any]]:
    with Bank.open(folder / "bank", backbone=str(backbone)) as bank:
        bank.init(max_length=32)
        add(bank, "films", folder)
        bank.retrain_router()
        made = bank.export(folder / "peft", format="peft")
        asked = [text for text, _ in task_rows("films", 6, seed=5)]
        wanted = [
            [line.scores[label] for label in ("bad", "good")]
            for line in bank.predict([Row(text) for text in asked], task="films")
        ]
    return folder / "peft" / "films", {**made.to_dict(), "asked": asked, "wanted": wanted}


def scores(states: torch.Tensor, mask: torch.Tensor, folder: Path, pooling: str) -> list[float]:
    """The head's probabilities, from the files alone."""
    with safe_open(folder / "head.safetensors", "pt") as file:
        weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
    assert bool(mask.all())
    pooled = states[0].mean(0) if pooling == "mean" else states[0][-1]
    logits = weight @ (pooled / pooled.pow(2).mean().sqrt()) + bias
    return logits.softmax(0).tolist()


@pytest.mark.parametrize("family", DECODERS)
def test_peft_answers_with_a_decoders_export_in_the_language_model_as_the_bank_does(
    family: str, backbone_folder: Any, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    backbone = backbone_folder(family)
    folder, told = exported(tmp_path, backbone)
    (shown,) = told["effects"]
    causal = AutoModelForCausalLM.from_pretrained(backbone).eval()
    assert shown["model"] == type(causal).__name__
    assert shown["effect"] > 1e-3
    assert shown["error"] <= shown["tolerance"] == 1e-4
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    inputs = tokenizer(told["asked"][0], return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        bare = causal(**inputs).logits
        model = peft.PeftModel.from_pretrained(causal, str(folder)).eval()
        assert isinstance(model, peft.PeftModelForCausalLM)
        assert (model(**inputs).logits - bare).abs().max() > 1e-4, "generation is changed"
        for text, wanted in zip(told["asked"], told["wanted"], strict=True):
            inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
            states = model.get_base_model().base_model(**inputs).last_hidden_state
            found = scores(states, inputs["attention_mask"], folder, "last")
            assert found == pytest.approx(wanted, abs=1e-5)
    layers = {name for name in peft.get_peft_model_state_dict(model) if "lora_A" in name}
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert layers == {name for name in file.keys() if "lora_A" in name}  # noqa: SIM118


@pytest.mark.parametrize("family", ENCODERS)
def test_peft_answers_with_an_encoders_export_in_the_bare_model_as_the_bank_does(
    family: str, backbone_folder: Any, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModel, AutoTokenizer

    backbone = backbone_folder(family)
    folder, told = exported(tmp_path, backbone)
    bare = AutoModel.from_pretrained(backbone).eval()
    assert told["effects"][0]["model"] == type(bare).__name__
    model = peft.PeftModel.from_pretrained(bare, str(folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(backbone)
    for text, wanted in zip(told["asked"], told["wanted"], strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = model(**inputs).last_hidden_state
        found = scores(states, inputs["attention_mask"], folder, "mean")
        assert found == pytest.approx(wanted, abs=1e-5)


def test_a_decoders_configuration_names_kinds_of_modules_and_the_branchs_layers(
    backbone_folder: Any, tmp_path: Path
) -> None:
    import json

    folder, _ = exported(tmp_path, backbone_folder("llama"))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert (config["layers_to_transform"], config["layers_pattern"]) == ([1, 2, 3], "layers")
    assert config["task_type"] == "CAUSAL_LM"
    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight" in file.keys()  # noqa: SIM118


def test_names_that_no_module_has_are_an_error_and_nothing_is_published(
    backbone_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it was once: the bare model's names in an adapter for the language model."""
    real = export_peft.lora_tensors

    def without_prefix(factors: Any) -> dict[str, torch.Tensor]:
        return real({path.removeprefix("model."): pair for path, pair in factors.items()})

    monkeypatch.setattr(export_peft, "lora_tensors", without_prefix)
    with pytest.raises(IntegrityError, match="nothing was published"):
        exported(tmp_path, backbone_folder("llama"))
    assert not (tmp_path / "peft").exists()


def test_a_configuration_that_selects_other_modules_is_an_error(
    backbone_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expertbank.adapters.peft_targets import PeftTargets

    wrong = PeftTargets(("q_proj", "v_proj"), (0, 1), ("layers",), "CAUSAL_LM")
    monkeypatch.setattr(export_peft, "by_last_parts", lambda *_: wrong)
    with pytest.raises(IntegrityError, match="does not fit LlamaForCausalLM"):
        exported(tmp_path, backbone_folder("llama"))
    assert not (tmp_path / "peft").exists()


def test_an_adapter_that_does_something_else_is_an_error(
    backbone_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from expertbank.adapters import hooks

    true = hooks.bound

    def twice(model: Any, factors: Any, paths: Any) -> Any:
        return true(model, lambda: {path: (a, 2 * b) for path, (a, b) in factors().items()}, paths)

    monkeypatch.setattr(hooks, "bound", twice)
    with pytest.raises(IntegrityError, match="gives other states in LlamaForCausalLM"):
        exported(tmp_path, backbone_folder("llama"))
    assert not (tmp_path / "peft").exists()
