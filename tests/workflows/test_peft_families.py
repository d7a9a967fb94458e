"""Adapters go out and come back in, and those that PEFT saved answer as they do with PEFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft_made
import pytest
import tiny
import torch
from peft_files import LABELS, every_linear_name, logits_of, random_expert, read_back
from small_bank import texts

from expertbank import Row
from expertbank.adapters.targets import default_roles
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.causal import as_loaded_elsewhere
from expertbank.errors import InputError
from expertbank.records import ExpertRecord
from expertbank.workflows.shipping.export import Extras
from expertbank.workflows.shipping.export_adapters import entry_of
from expertbank.workflows.shipping.export_peft import Peft

ASKED = texts()[:6]
ROWS = [Row(text) for text in ASKED]
CLASSIFIED = [name for name in tiny.SUPPORTED if name != "modernbert"]
"""Families whose class for labelled sequences has a head that an expert's can be."""
SAVED = {"deberta-v2": ["pooler", "classifier"]}


@pytest.mark.parametrize("family", [*tiny.SUPPORTED, *tiny.UNLISTED])
def test_an_expert_that_was_exported_for_peft_comes_back_with_the_same_logits(
    family: str, load_tiny: Callable[[str], Backbone], tmp_path: Path
) -> None:
    backbone = load_tiny(family)
    spec = tiny.spec_of(backbone)
    file = random_expert(backbone, spec)
    wanted = logits_of(file, backbone, spec, ROWS)
    expert = ExpertRecord("t", 1, "d" * 64, 1, 1, 1, LABELS, file.kind)
    files = Peft(Extras()).files(
        file,
        entry_of(expert, file),
        as_loaded_elsewhere(backbone),
        {
            "backbone": {"reference": "./backbone", "revision": None},
            "feature_spec": {"max_length": 32},
        },
    )
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    back = read_back(tmp_path, backbone, spec, LABELS)
    assert back.adapter_kind == "lora"
    assert torch.allclose(logits_of(back, backbone, spec, ROWS), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", CLASSIFIED)
def test_a_classifier_that_peft_saved_answers_as_it_does_with_peft(
    family: str,
    backbone_folder: Callable[[str], Path],
    load_tiny: Callable[[str], Backbone],
    tmp_path: Path,
) -> None:
    pytest.importorskip("peft")
    folder, backbone = backbone_folder(family), load_tiny(family)
    where = backbone.family
    roles = default_roles(backbone.model, where)
    names = sorted({where.projections[role].rpartition(".")[2] for role in roles})
    _, model = peft_made.saved(
        tmp_path / "adapter",
        folder,
        3,
        target_modules=names,
        modules_to_save=SAVED.get(family.split()[0]),
        fan_in_fan_out=family == "gpt2",
        lora_alpha=3,
        **peft_made.LAYERS,
    )
    spec = tiny.spec_of(backbone)
    back = read_back(tmp_path / "adapter", backbone, spec, LABELS)
    found = logits_of(back, backbone, spec, ROWS)
    wanted = peft_made.logits(model, folder, ASKED)
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert wanted.std() > 0.1
    if where.classifier.dense is not None:
        assert back.dense is not None
    assert not back.scaled


def test_a_pooler_that_the_adapter_changes_too_is_read_through_as_changed(
    backbone_folder: Callable[[str], Path], load_tiny: Callable[[str], Backbone], tmp_path: Path
) -> None:
    """``dense`` names the feed-forward layers of BERT, and its pooler."""
    pytest.importorskip("peft")
    folder, backbone = backbone_folder("bert"), load_tiny("bert")
    wish = {"target_modules": ["query", "dense"]}
    _, model = peft_made.saved(tmp_path / "adapter", folder, 3, **wish)
    spec = tiny.spec_of(backbone, 0, states=(4,), poolings=("mean",))
    back = read_back(tmp_path / "adapter", backbone, spec, LABELS)
    found = logits_of(back, backbone, spec, ROWS)
    wanted = peft_made.logits(model, folder, ASKED)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert not [path for path in back.adapter().paths if "pooler" in path]


def test_a_head_that_is_not_known_is_refused_with_what_to_do_instead(
    backbone_folder: Callable[[str], Path], load_tiny: Callable[[str], Backbone], tmp_path: Path
) -> None:
    """DeBERTa's classifier reads a layer that PEFT saves only where it is named."""
    pytest.importorskip("peft")
    names = {"modernbert": ["Wqkv"], "deberta-v2": ["value_proj"]}
    for family, targets in names.items():
        backbone = load_tiny(family)
        wish = {"target_modules": targets, **peft_made.LAYERS}
        where, _ = peft_made.saved(tmp_path / family, backbone_folder(family), **wish)
        with pytest.raises(InputError, match="--fit-head"):
            read_back(where, backbone, tiny.spec_of(backbone), LABELS)


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 40, "lora_alpha": 7},
        {"use_rslora": True},
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"layers.3.self_attn.q_proj": 1}},
        {"alpha_pattern": {"^v_proj": 40, "^model.layers.3.self_attn.q_proj": 1}},
        {"init_lora_weights": "mica"},
        {
            "target_modules": r".*layers\.[23]\.self_attn\.(q|k|v|o)_proj",
            "layers_to_transform": None,
        },
        {"target_modules": "all-linear", "layers_to_transform": None},
        {"task_type": None, "modules_to_save": ["score"]},
    ],
)
def test_ranks_scales_and_choices_of_modules_mean_what_they_mean_with_peft(
    settings: dict[str, Any],
    backbone_folder: Callable[[str], Path],
    load_tiny: Callable[[str], Backbone],
    tmp_path: Path,
) -> None:
    pytest.importorskip("peft")
    folder, backbone = backbone_folder("llama"), load_tiny("llama")
    wish = {"target_modules": ["q_proj", "v_proj"], **peft_made.LAYERS, **settings}
    _, model = peft_made.saved(tmp_path / "adapter", folder, 3, **wish)
    spec = tiny.spec_of(backbone, 0, states=(4,), poolings=("last",))
    back = read_back(tmp_path / "adapter", backbone, spec, LABELS)
    found = logits_of(back, backbone, spec, ROWS)
    wanted = peft_made.logits(model, folder, ASKED)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    if settings.get("target_modules") == "all-linear":
        adapted = {path.rpartition(".")[2] for path in back.adapter().paths}
        assert adapted == set(every_linear_name(backbone))
