"""Experts as LoRA folders and back, without a bank around them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from expertbank.adapters.lora import LORA
from expertbank.adapters.peft_places import placed
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.targets import adaptable_modules, find_targets
from expertbank.adapters.tt import TTAdapter, group_targets
from expertbank.backbones.backbone import Backbone
from expertbank.config import FeatureSpec
from expertbank.data import encode_rows
from expertbank.kinds import KINDS
from expertbank.models.expert_file import ExpertFile
from expertbank.models.routed import RoutedModel
from expertbank.records import Row, TaskRecord
from expertbank.workflows.measure import answers
from expertbank.workflows.shipping.import_peft import expert_file
from expertbank.workflows.shipping.peft_folder import read_peft_folder
from expertbank.workflows.shipping.peft_head import head_of

LABELS = ("bad", "good", "neither")


def random_expert(
    backbone: Backbone, spec: FeatureSpec, kind: str = "classification"
) -> ExpertFile:
    """An expert of trains whose update and head are far from zero."""
    targets = find_targets(backbone.model, backbone.family, spec.route_layer)
    generator = torch.Generator().manual_seed(3)
    fresh = TTAdapter.fresh(group_targets(targets, 3), 4.0, generator)
    tensors = {
        name: torch.randn(core.shape, generator=generator) * 0.4
        for name, core in fresh.to_tensors().items()
    }
    labels = LABELS if KINDS.get(kind).names_labels else ()
    outputs, width = KINDS.get(kind).outputs(labels), backbone.output_size
    tensors["head.weight"] = torch.randn(outputs, width, generator=generator)
    tensors["head.bias"] = torch.randn(outputs, generator=generator)
    if KINDS.get(kind).has_thresholds:
        tensors["head.threshold"] = torch.randn(outputs, generator=generator)
    digests = spec.digest, backbone.digest
    facts, pooling = fresh.facts(), backbone.family.pooling
    return ExpertFile("t", kind, labels, "tt", facts, 4.0, *digests, tensors, pooling)


def read_back(folder: Path, backbone: Backbone, spec: FeatureSpec, labels: tuple[str, ...]):
    """The expert's file that a folder comes to."""
    found = read_peft_folder(folder)
    places = placed(found.factors, found.config, backbone, found.where)
    head = head_of(found, backbone, places)
    assert head is not None
    kind = found.own_head.kind if found.own_head else "classification"
    task = TaskRecord("t", kind, labels, {}, "")
    made = expert_file(task, LORA.of_factors(places.layers), head, spec)
    return ExpertFile.from_bytes(made.to_bytes(), "expert")


def logits_of(
    file: ExpertFile, backbone: Backbone, spec: FeatureSpec, rows: Sequence[Row]
) -> torch.Tensor:
    """What the bank's own pass answers with an expert."""
    served = file.collapse("e", backbone.device, torch.float32)
    model = RoutedModel(backbone, spec, ExpertPool.holding({"e": served}))
    kind = KINDS.get(file.kind)
    tokens = encode_rows(rows, backbone.tokenizer, kind, file.labels, spec.max_length)
    return answers(model, tokens, "e").logits


def every_linear_name(backbone: Backbone) -> list[str]:
    """Last parts of all linear modules in layers."""
    modules = adaptable_modules(backbone.model, backbone.family, 0)
    return sorted({path.rpartition(".")[2] for path in modules})
