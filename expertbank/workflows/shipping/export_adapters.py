"""``export`` of every expert as a LoRA adapter for other programs, in any of their formats.

Beside it stands what makes answers of it: its head, or, where the language model writes them, how
a prompt goes on and where an answer ends.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expertbank.adapters.peft import lora_rank
from expertbank.adapters.slots import Factors
from expertbank.artifacts.bundle import BundleWriter
from expertbank.artifacts.listed import ListedFolder
from expertbank.backbones.causal import Around, as_loaded_elsewhere
from expertbank.backbones.identity import public_name
from expertbank.config import ExportFormat
from expertbank.errors import InputError, IntegrityError
from expertbank.files.tensors import read_tensors, write_safetensors
from expertbank.models.expert_file import ExpertFile
from expertbank.records import ExpertRecord, ProgressCallback
from expertbank.workflows.environment import package_versions
from expertbank.workflows.shipping.adapter_effect import effect_of
from expertbank.workflows.shipping.export import Extras, Shipped, named
from expertbank.workflows.shipping.peft_folder import HEAD, WRITING
from expertbank.writing import Writing, end_of

READING = ("pooling", "scaled", "dense")
"""What a folder tells of how the head reads the last hidden states."""
WRITTEN = ("id", "kind", "backbone_digest", "max_length", "end_token_id")
"""What it tells of an expert that has no head."""


class Adapters(ABC):
    """A format of adapters: one folder per task."""

    name: ExportFormat
    needs_weights = True

    def __init__(self, extras: Extras) -> None:
        if extras.with_backbone or extras.for_import:
            raise InputError(
                f"--format {self.name} writes adapters only; leave --with-backbone and "
                "--for-import out"
            )

    @abstractmethod
    def adapter(
        self,
        factors: Factors,
        entry: Mapping[str, Any],
        around: Around,
        backbone: Mapping[str, Any],
    ) -> dict[str, bytes]:
        """The files of one adapter: bytes by name.

        Args:
            factors: path in ``around`` to the expert's ``A [in, r]`` and ``alpha·B [r, out]``.
            entry: what the manifest says of the expert.
            around: the model that readers load.
            backbone: what the manifest says of the one inside.

        Raises:
            UnsupportedModelError: the format has no way to say it.
        """

    @abstractmethod
    def read(self, listed: ListedFolder, entry: Mapping[str, Any], around: Around) -> Factors:
        """The factors in what was written, as the format's readers find them in ``around``.

        Raises:
            IntegrityError: they would find none, or others.
        """

    @abstractmethod
    def readme(self, content: Mapping[str, Any]) -> str:
        """Markdown for the whole export, by its manifest."""

    @abstractmethod
    def adapter_readme(self, entry: Mapping[str, Any], content: Mapping[str, Any]) -> str:
        """Markdown for one expert's folder."""

    def write(self, shipped: Shipped, writer: BundleWriter) -> dict[str, Any]:
        """A folder for every expert.

        Raises:
            UnsupportedModelError: the format has no way to say what an expert changes.
        """
        workspace = shipped.workspace
        files = [workspace.expert_file(expert) for expert in shipped.experts]
        backbone = workspace.backbone
        told = workspace.backbone_record.named()
        told["reference"] = public_name(str(told["reference"]), backbone.place.path)
        around = as_loaded_elsewhere(backbone)
        entries = [entry_of(*each) for each in zip(shipped.experts, files, strict=True)]
        content = {
            "made_with": package_versions(),
            "backbone": told,
            "feature_spec": workspace.spec.to_dict(),
            "loaded_as": _loaded_as(around),
            "experts": entries,
        }
        for file, entry in zip(files, entries, strict=True):
            for name, data in self.files(file, entry, around, content).items():
                writer.add(f"{entry['folder']}/{name}", data)
            writer.add(f"{entry['folder']}/README.md", self.adapter_readme(entry, content).encode())
        writer.add("README.md", self.readme(content).encode())
        return content

    def files(
        self,
        file: ExpertFile,
        entry: Mapping[str, Any],
        around: Around,
        content: Mapping[str, Any],
    ) -> dict[str, bytes]:
        """An expert's folder without its README: bytes by name.

        Args:
            file: the expert.
            entry: what the manifest says of it.
            around: the model that readers load.
            content: the manifest.
        """
        made = self.adapter(_factors(file, around), entry, around, content["backbone"])
        told = {name: entry[name] for name in ("id", "kind", "labels", *READING)}
        told["backbone_digest"] = around.backbone.digest
        told["max_length"] = content["feature_spec"]["max_length"]
        if file.writing is None:
            return made | {HEAD: write_safetensors(ready(_head(file)), told)}
        told["end_token_id"] = end_of(around.backbone.tokenizer)
        return made | {WRITING: document(written_beside(file.writing, told))}

    def compare(
        self, shipped: Shipped, folder: Path, progress: ProgressCallback
    ) -> tuple[dict[str, Any], ...]:
        """Read every folder as its readers would, hold it against the expert, and try it.

        Raises:
            IntegrityError: a factor, a head or a way to write differs, or the adapter does
                something else, or nothing, in the model that it is loaded into.
        """
        workspace = shipped.workspace
        around = as_loaded_elsewhere(workspace.backbone)
        listed = ListedFolder(folder, self.name)
        listed.check_all()
        effects = []
        for expert, entry in zip(shipped.experts, listed.content["experts"], strict=True):
            file = workspace.expert_file(expert)
            found, ours = self.read(listed, entry, around), _factors(file, around)
            same = (
                found.keys() == ours.keys()
                and all(_same_pair(found[path], ours[path], entry["rank"]) for path in ours)
                and _same_answers(file, listed, entry["folder"])
            )
            if not same:
                raise IntegrityError(
                    f"the LoRA folder written for {expert.id} does not hold the expert; "
                    "nothing was published"
                )
            model, length = workspace.model, workspace.spec.max_length
            effects.append(effect_of(found, around, model, expert, length).to_dict())
        return tuple(effects)


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
        **named(expert),
        "folder": expert.task,
        "rank": rank,
        "pooling": file.pooling,
        "scaled": file.scaled,
        "dense": file.dense,
        "writing": None if file.writing is None else file.writing.to_dict(),
    }


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
