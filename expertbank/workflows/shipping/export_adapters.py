"""``export`` of every expert as a LoRA adapter for other programs, in any of their formats.

Beside it stands what makes answers of it: its head, or, where the language model writes them, how
a prompt goes on and where an answer ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from expertbank.adapters.peft import lora_rank
from expertbank.adapters.slots import Factors
from expertbank.artifacts.bundle import BundleWriter
from expertbank.artifacts.listed import ListedFolder
from expertbank.backbones.causal import Around, as_loaded_elsewhere
from expertbank.backbones.identity import public_name
from expertbank.config import ExportFormat
from expertbank.errors import IntegrityError
from expertbank.files.paths import storable
from expertbank.files.tensors import read_tensors, write_safetensors
from expertbank.models.expert_file import ExpertFile
from expertbank.records import ExpertRecord, ExportRecord, ProgressCallback, no_progress
from expertbank.workflows.environment import package_versions
from expertbank.workflows.shipping.adapter_effect import Effect, effect_of
from expertbank.workflows.shipping.export import (
    ExportResult,
    chosen,
    publish,
    record_export,
    require_weights,
)
from expertbank.workflows.shipping.peft_folder import HEAD, WRITING
from expertbank.workflows.workspace import Workspace
from expertbank.writing import Writing, end_of

READING = ("pooling", "scaled", "dense")
"""What a folder tells of how the head reads the last hidden states."""
WRITTEN = ("id", "kind", "backbone_digest", "max_length", "end_token_id")
"""What it tells of an expert that has no head."""


class Form(Protocol):
    """A format of adapters."""

    @property
    def name(self) -> ExportFormat:
        """What ``--format`` calls it."""

    def adapter(
        self,
        factors: Factors,
        entry: Mapping[str, Any],
        around: Around,
        *,
        base_model: str,
        revision: str | None,
    ) -> dict[str, bytes]:
        """The files of one adapter: bytes by name.

        Args:
            factors: path in ``around`` to the expert's ``A [in, r]`` and ``alpha·B [r, out]``.
            entry: what the manifest says of the expert.
            around: the model that readers load.
            base_model: Hub name of the backbone, or where it stands beside the adapter.
            revision: the Hub's commit.

        Raises:
            UnsupportedModelError: the format has no way to say it.
        """

    def read(self, listed: ListedFolder, entry: Mapping[str, Any], around: Around) -> Factors:
        """The factors in what was written, as the format's readers find them in ``around``.

        Raises:
            IntegrityError: they would find none, or others.
        """

    def readme(self, content: Mapping[str, Any]) -> str:
        """Markdown for the whole export, by its manifest."""

    def adapter_readme(self, entry: Mapping[str, Any], content: Mapping[str, Any]) -> str:
        """Markdown for one expert's folder."""


def export_adapters(
    workspace: Workspace,
    target: Path,
    form: Form,
    *,
    tasks: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> ExportResult:
    """Write the experts that the active router serves as adapters, read back and compared.

    Args:
        workspace: the open bank.
        target: folder to make, with one folder per task inside; an older export of the format
            there is replaced, anything else is not touched.
        form: the format.
        tasks: only these tasks.
        progress: told when it is written.

    Raises:
        NotFoundError: no router yet, or a task that it does not serve.
        InputError: an adapter elsewhere answers a task.
        ExistsError: ``target`` is something else than an export of this format.
        UnsupportedModelError: the format has no way to say what an expert changes.
        IntegrityError: what was written is not the expert, or has no effect, or another, in the
            model that readers load; nothing is published.
    """
    record, shipped, _ = chosen(workspace, tasks)
    require_weights(shipped)
    experts = [workspace.registry.expert(member.id) for member in shipped.members]
    files = {expert.id: workspace.expert_file(expert) for expert in experts}
    named = workspace.backbone_record.named()
    writer = BundleWriter(target, form.name)
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
                form,
                files[expert.id],
                entry,
                around,
                base_model=content["backbone"]["reference"],
                revision=content["backbone"]["revision"],
                max_length=workspace.spec.max_length,
            )
            made["README.md"] = form.adapter_readme(entry, content).encode()
            for name, data in made.items():
                writer.add(f"{entry['folder']}/{name}", data)
        writer.add("README.md", form.readme(content).encode())
        digest = writer.finish(content)
        effects = _compare(form, writer.folder, content["experts"], files, around, workspace)
        size = sum(path.stat().st_size for path in writer.folder.rglob("*") if path.is_file())
        publish(writer, progress)
    finally:
        writer.discard()
    ids = tuple(expert.id for expert in experts)
    export = ExportRecord(digest, form.name, storable(writer.target), record.version, ids)
    recorded = record_export(workspace, export)
    return ExportResult(
        writer.target,
        digest,
        ids,
        record.version,
        size,
        form.name,
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


def _factors(file: ExpertFile, around: Around) -> Factors:
    own = file.adapter().collapse()  # of a LoRA these are its parameters
    return {f"{around.prefix}{path}": (a.detach(), b.detach()) for path, (a, b) in own.items()}


def entry_of(expert: ExpertRecord, file: ExpertFile) -> dict[str, Any]:
    """What the manifest says of an expert."""
    with torch.no_grad():
        rank = lora_rank(file.adapter().collapse())
    return {
        "id": expert.id,
        "task": expert.task,
        "version": expert.version,
        "digest": expert.digest,
        "kind": expert.kind,
        "labels": list(expert.labels),
        "folder": expert.task,
        "rank": rank,
        "pooling": file.pooling,
        "scaled": file.scaled,
        "dense": file.dense,
        "writing": None if file.writing is None else file.writing.to_dict(),
    }


def adapter_files(
    form: Form,
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
        form: the format of the adapter.
        file: the expert.
        entry: what the manifest says of it.
        around: the model that readers load.
        base_model: Hub name of the backbone, or where it stands beside the adapter.
        revision: the Hub's commit.
        max_length: where its texts are cut, in tokens.
    """
    factors = _factors(file, around)
    made = form.adapter(factors, entry, around, base_model=base_model, revision=revision)
    told = {name: entry[name] for name in ("id", "kind", "labels", *READING)}
    told |= {"backbone_digest": around.backbone.digest, "max_length": max_length}
    if file.writing is None:
        return made | {HEAD: write_safetensors(ready(_head(file)), told)}
    told["end_token_id"] = end_of(around.backbone.tokenizer)
    return made | {WRITING: document(written_beside(file.writing, told))}


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


def document(content: Mapping[str, Any]) -> bytes:
    """A JSON file of an export."""
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def ready(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the order and form in which the same ones give the same file."""
    return {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}


def _head(file: ExpertFile) -> dict[str, Tensor]:
    own = (name for name in file.tensors if name.startswith("head."))
    return {name.removeprefix("head."): file.tensors[name] for name in own}


def _compare(
    form: Form,
    folder: Path,
    entries: Sequence[dict[str, Any]],
    files: dict[str, ExpertFile],
    around: Around,
    workspace: Workspace,
) -> list[Effect]:
    """Read every folder as its readers would, hold it against the expert, and try it.

    Raises:
        IntegrityError: a factor, a head or a way to write differs, or the adapter does something
            else, or nothing, in the model that it is loaded into.
    """
    listed = ListedFolder(folder, form.name)
    listed.check_all()
    effects = []
    for entry in entries:
        file = files[entry["id"]]
        found, ours = form.read(listed, entry, around), _factors(file, around)
        same = (
            found.keys() == ours.keys()
            and all(_same_pair(found[path], ours[path], entry["rank"]) for path in ours)
            and _same_answers(file, listed, entry["folder"])
        )
        if not same:
            raise IntegrityError(
                f"the LoRA folder written for {entry['id']} does not hold the expert; "
                "nothing was published"
            )
        expert, length = workspace.registry.expert(entry["id"]), workspace.spec.max_length
        effects.append(effect_of(found, around, workspace.model, expert, length))
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
