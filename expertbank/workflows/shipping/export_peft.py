"""``export --format peft``: every expert as a LoRA adapter that PEFT loads.

Beside it stands what makes answers of it: its head, or, where the language model writes them, how
a prompt goes on and where an answer ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from expertbank.adapters.peft import lora_factors, lora_rank, lora_tensors, peft_config
from expertbank.adapters.peft_targets import PeftTargets, by_last_parts, in_full
from expertbank.adapters.slots import Factors
from expertbank.artifacts.bundle import BundleWriter
from expertbank.artifacts.listed import ListedFolder
from expertbank.backbones.causal import Around, as_loaded_elsewhere
from expertbank.backbones.identity import public_name
from expertbank.errors import IntegrityError
from expertbank.files.paths import storable
from expertbank.files.tensors import read_tensors, write_safetensors
from expertbank.models.expert_file import ExpertFile
from expertbank.records import ExpertRecord, ExportRecord
from expertbank.reports.peft_readme import adapter_readme, peft_readme
from expertbank.workflows.shipping.export import (
    ExportResult,
    chosen,
    record_export,
    require_weights,
)
from expertbank.workflows.shipping.peft_effect import Effect, effect_of
from expertbank.workflows.shipping.peft_folder import ADAPTER, CONFIG, HEAD, WRITING
from expertbank.workflows.workspace import Workspace, package_versions
from expertbank.writing import Writing, end_of

READING = ("pooling", "scaled", "dense")
"""What a folder tells of how the head reads the last hidden states."""
WRITTEN = ("id", "kind", "backbone_digest", "max_length", "end_token_id")
"""What it tells of an expert that has no head."""


def export_peft(workspace: Workspace, target: Path, *, tasks: Sequence[str] = ()) -> ExportResult:
    """Write the experts that the active router serves as PEFT folders, read back and compared.

    Args:
        workspace: the open bank.
        target: folder to make, with one folder per task inside; an older export for PEFT there
            is replaced, anything else is not touched.
        tasks: only these tasks.

    Raises:
        NotFoundError: no router yet, or a task that it does not serve.
        InputError: an adapter elsewhere answers a task.
        ExistsError: ``target`` is something else than an export for PEFT.
        IntegrityError: what was written is not the expert, or has no effect, or another, in the
            model that readers load; nothing is published.
    """
    record, shipped, _ = chosen(workspace, tasks)
    require_weights(shipped)
    experts = [workspace.registry.expert(member.id) for member in shipped.members]
    files = {expert.id: workspace.expert_file(expert) for expert in experts}
    named = workspace.backbone_record.named()
    writer = BundleWriter(target, "peft")
    try:
        backbone = workspace.backbone
        around = as_loaded_elsewhere(backbone)
        content: dict[str, Any] = {
            "made_with": package_versions(),
            "backbone": {
                **named,
                "reference": public_name(str(named["reference"]), backbone.place.path),
            },
            "feature_spec": workspace.spec.to_dict(),
            "loaded_as": _loaded_as(around),
            "experts": [entry_of(expert, files[expert.id]) for expert in experts],
        }
        for expert, entry in zip(experts, content["experts"], strict=True):
            made = adapter_files(
                files[expert.id],
                entry,
                around,
                base_model=content["backbone"]["reference"],
                revision=content["backbone"]["revision"],
                max_length=workspace.spec.max_length,
            )
            made["README.md"] = adapter_readme(entry, content).encode()
            for name, data in made.items():
                writer.add(f"{entry['folder']}/{name}", data)
        writer.add("README.md", peft_readme(content).encode())
        digest = writer.finish(content)
        effects = _compare(writer.folder, content["experts"], files, around, workspace)
        size = sum(path.stat().st_size for path in writer.folder.rglob("*") if path.is_file())
        writer.publish()
    finally:
        writer.discard()
    ids = tuple(expert.id for expert in experts)
    export = ExportRecord(digest, "peft", storable(writer.target), record.version, ids)
    recorded = record_export(workspace, export)
    return ExportResult(
        writer.target,
        digest,
        ids,
        record.version,
        size,
        "peft",
        recorded=recorded,
        effects=tuple(effect.to_dict() for effect in effects),
    )


def _loaded_as(around: Around) -> dict[str, Any]:
    """How readers load the backbone."""
    path = around.backbone.place.path
    return {
        "class": around.name,
        "causal": around.is_causal,
        "inner": around.inner,
        "gguf": path.name if path.is_file() else None,
    }


def _factors(file: ExpertFile) -> Factors:
    with torch.no_grad():
        return file.adapter().collapse()


def entry_of(expert: ExpertRecord, file: ExpertFile) -> dict[str, Any]:
    """What the manifest says of an expert."""
    return {
        "id": expert.id,
        "task": expert.task,
        "version": expert.version,
        "digest": expert.digest,
        "kind": expert.kind,
        "labels": list(expert.labels),
        "folder": expert.task,
        "rank": lora_rank(_factors(file)),
        "pooling": file.pooling,
        "scaled": file.scaled,
        "dense": file.dense,
        "writing": None if file.writing is None else file.writing.to_dict(),
    }


def adapter_files(
    file: ExpertFile,
    entry: Mapping[str, Any],
    around: Around,
    *,
    base_model: str,
    revision: str | None,
    max_length: int,
) -> dict[str, bytes]:
    """An expert's folder without its README: bytes by name.

    Args:
        file: the expert.
        entry: what the manifest says of it.
        around: the model that readers load.
        base_model: Hub name of the backbone, or where it stands beside the adapter.
        revision: the Hub's commit.
        max_length: where its texts are cut, in tokens.
    """
    factors = {f"{around.prefix}{path}": pair for path, pair in _factors(file).items()}
    config = peft_config(
        _targets(around, list(factors)),
        entry["rank"],
        base_model=base_model,
        revision=revision,
        fan_in_fan_out=_fan_in_fan_out(around, factors),
    )
    told = {name: entry[name] for name in ("id", "kind", "labels", *READING)}
    told |= {"backbone_digest": around.backbone.digest, "max_length": max_length}
    made = {
        CONFIG: _document(config),
        # PEFT and transformers look for this entry; one key, as several come in random order.
        ADAPTER: save(_ready(lora_tensors(factors)), {"format": "pt"}),
    }
    if file.writing is None:
        return made | {HEAD: write_safetensors(_ready(_head(file)), told)}
    told["end_token_id"] = end_of(around.backbone.tokenizer)
    return made | {WRITING: _document(written_beside(file.writing, told))}


def written_beside(writing: Writing, told: Mapping[str, Any]) -> dict[str, Any]:
    """What ``writing.json`` holds, under the names that engines have for it where they have one.

    Args:
        writing: how the expert's answers are written.
        told: what the folder tells of the expert.
    """
    return {
        **{name: told[name] for name in WRITTEN},
        "response_template": writing.template,
        "stop": list(writing.stop),
        "max_tokens": writing.max_tokens,
        "language_model_head": writing.head,
    }


def _document(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()


def _head(file: ExpertFile) -> dict[str, Tensor]:
    own = (name for name in file.tensors if name.startswith("head."))
    return {name.removeprefix("head."): file.tensors[name] for name in own}


def _ready(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}


def _targets(around: Around, paths: list[str]) -> PeftTargets:
    """How the adapted modules are named.

    In full for an encoder: experts act only in the branch, and a list says so to every reader.
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


def _compare(
    folder: Path,
    entries: Sequence[dict[str, Any]],
    files: dict[str, ExpertFile],
    around: Around,
    workspace: Workspace,
) -> list[Effect]:
    """Read every folder as PEFT would, hold it against the expert, and try it.

    Raises:
        IntegrityError: a factor, a head or a way to write differs, or the adapter does something
            else, or nothing, in the model that it is loaded into.
    """
    listed = ListedFolder(folder, "peft")
    listed.check_all()
    effects = []
    for entry in entries:
        file, name = files[entry["id"]], entry["folder"]
        config = json.loads(listed.read(f"{name}/{CONFIG}"))
        adapter = read_tensors(listed.read(f"{name}/{ADAPTER}"), f"{name}/{ADAPTER}")
        found = lora_factors(adapter, config["lora_alpha"] / config["r"])
        ours = {f"{around.prefix}{path}": pair for path, pair in _factors(file).items()}
        same = (
            found.keys() == ours.keys()
            and all(_same_pair(found[path], ours[path], config["r"]) for path in ours)
            and _same_answers(file, listed, name)
        )
        if not same:
            raise IntegrityError(
                f"the LoRA folder written for {entry['id']} does not hold the expert; "
                "nothing was published"
            )
        expert, length = workspace.registry.expert(entry["id"]), workspace.spec.max_length
        effects.append(effect_of(config, adapter, around, workspace.model, expert, length))
    return effects


def _same_pair(found: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor], rank: int) -> bool:
    """Whether a pair is the expert's own, bit for bit, and zero in the ranks it does not need."""
    (a, b), (own_a, own_b), own = found, ours, ours[0].shape[1]
    return (
        a.shape[1] == rank
        and torch.equal(a[:, :own], own_a)
        and torch.equal(b[:own], own_b)
        and not a[:, own:].any()
        and not b[own:].any()
    )


def _same_answers(file: ExpertFile, listed: ListedFolder, folder: str) -> bool:
    """Whether the head is the expert's own, or the way its answers are written."""
    if file.writing is None:
        head = read_tensors(listed.read(f"{folder}/{HEAD}"), f"{folder}/{HEAD}")
        return all(torch.equal(head[name], one) for name, one in _head(file).items())
    told = json.loads(listed.read(f"{folder}/{WRITING}"))
    return bool(told == written_beside(file.writing, told))
