"""``export --format peft``: every expert as a LoRA adapter that PEFT loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import save

from expertbank.adapters.peft import lora_factors, lora_tensors, peft_config
from expertbank.adapters.peft_targets import PeftTargets, by_last_parts, in_full
from expertbank.adapters.slots import Factors
from expertbank.artifacts.listed import ListedFolder
from expertbank.backbones.causal import Around
from expertbank.config import ExportFormat
from expertbank.errors import IntegrityError
from expertbank.files.tensors import read_tensors
from expertbank.reports.adapters_readme import adapters_readme
from expertbank.reports.peft_readme import peft_readme
from expertbank.workflows.shipping.export_adapters import Adapters, document, ready
from expertbank.workflows.shipping.peft_folder import ADAPTER, CONFIG


class Peft(Adapters):
    """PEFT's folders: a configuration and a safetensors file."""

    name: ExportFormat = "peft"

    def adapter(
        self,
        factors: Factors,
        entry: Mapping[str, Any],
        around: Around,
        backbone: Mapping[str, Any],
    ) -> dict[str, bytes]:
        """``adapter_config.json`` and ``adapter_model.safetensors``."""
        config = peft_config(
            _targets(around, list(factors)),
            entry["rank"],
            base_model=backbone["reference"],
            revision=backbone["revision"],
            fan_in_fan_out=_fan_in_fan_out(around, factors),
        )
        return {
            CONFIG: document(config),
            # PEFT and transformers look for this entry; one key, as several come in random order.
            ADAPTER: save(ready(lora_tensors(factors)), {"format": "pt"}),
        }

    def read(self, listed: ListedFolder, entry: Mapping[str, Any], around: Around) -> Factors:
        """By PEFT's rules; configuration and tensors must name the same modules of ``around``."""
        name = entry["folder"]
        config = json.loads(listed.read(f"{name}/{CONFIG}"))
        tensors = read_tensors(listed.read(f"{name}/{ADAPTER}"), f"{name}/{ADAPTER}")
        factors = lora_factors(tensors, config["lora_alpha"] / config["r"])
        _require_names(PeftTargets.from_config(config), set(factors), around, entry["id"])
        return factors

    def readme(self, content: Mapping[str, Any]) -> str:
        """Markdown for the whole export."""
        return adapters_readme(content, "in PEFT's format")

    def adapter_readme(self, entry: Mapping[str, Any], content: Mapping[str, Any]) -> str:
        """Markdown for one expert's folder."""
        return peft_readme(entry, content)


def _targets(around: Around, paths: list[str]) -> PeftTargets:
    """How the adapted modules are named.

    In full for an encoder: experts act in some layers only, and a list says so to every reader.
    A language model's readers expect kinds of modules.
    """
    if not around.is_causal:
        return in_full(paths)
    layers = f"{around.prefix}{around.backbone.family.layers}"
    return by_last_parts(paths, layers, (path for path, _ in around.model.named_modules()))


def _fan_in_fan_out(around: Around, factors: Factors) -> bool:
    """Whether the adapted projections keep their weights as ``[in, out]``, as GPT-2's do."""
    kinds = {type(around.model.get_submodule(path)).__name__ for path in factors}
    return kinds == {"Conv1D"}


def _require_names(named: PeftTargets, held: set[str], around: Around, expert: str) -> None:
    """The configuration and the tensors must name the same modules, all of them the model's."""
    selected = {path for path, _ in around.model.named_modules() if named.selects(path)}
    if selected != held:
        odd = sorted(selected ^ held)
        raise IntegrityError(
            f"the adapter written for {expert} does not fit {around.name}: {len(odd)} modules are "
            f"named by its configuration or its tensors alone, the first is {odd[0]}; nothing was "
            "published"
        )
