"""A PEFT adapter's folder, read: configuration, factors, and the head and labels that it brings.

It may come from anyone. Only JSON and safetensors are read; a pickle is never opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expertbank.adapters.peft import LORA_ENDS, PREFIX, lora_factors
from expertbank.adapters.peft_config import AGAIN, PeftConfig
from expertbank.adapters.slots import Factors
from expertbank.artifacts.listed import MANIFEST, MAX_READ_BYTES
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import MALFORMED, InputError, IntegrityError, NotFoundError
from expertbank.files.durable import os_errors_translated
from expertbank.files.tensors import read_safetensors, read_tensors
from expertbank.models.saved_head import Head

CONFIG, ADAPTER, HEAD = "adapter_config.json", "adapter_model.safetensors", "head.safetensors"
WRITING = "writing.json"
"""How an exported expert's answers are written, where the language model writes them."""
PICKLE, MODEL_CONFIG = "adapter_model.bin", "config.json"
MODEL = "model.safetensors"
_MAX_JSON_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OwnHead:
    """The head that ``export --format peft`` writes beside an adapter.

    Attributes:
        head: the head.
        kind: name of its task's kind.
        labels: in head order; empty where the kind names none.
        backbone_digest: the backbone it was trained on.
        expert: what it was called.
    """

    head: Head
    kind: str
    labels: tuple[str, ...]
    backbone_digest: str
    expert: str


@dataclass(frozen=True, slots=True)
class PeftFolder:
    """What an adapter's folder holds.

    Attributes:
        where: the folder, for messages.
        digest: SHA-256 of ``adapter_model.safetensors``.
        config: what its configuration says.
        factors: path in the wrapped model to ``A [in, r]`` and ``scale·B [r, out]``, float32.
        saved: parameters of modules that were trained as a whole, by path there, float32.
        own_head: the head of an export of a bank's, if there is one.
        labels: names of outputs that its model's configuration gives, in their order; empty
            where it gives none.
    """

    where: str
    digest: str
    config: PeftConfig
    factors: Factors
    saved: Mapping[str, Tensor]
    own_head: OwnHead | None
    labels: tuple[str, ...]


def read_peft_folder(folder: Path) -> PeftFolder:
    """Read and check an adapter's folder; nothing is known of the backbone yet.

    Raises:
        NotFoundError: no such folder, or no adapter in it.
        InputError: an adapter that cannot come in as an expert.
        IntegrityError: a file is damaged, or is not what its name says.
    """
    where = str(folder)
    _require_adapter(folder)
    config = PeftConfig.of(_json(folder / CONFIG), str(folder / CONFIG))
    data = _bytes(folder / ADAPTER)
    file = str(folder / ADAPTER)
    factors, saved = _parted(_floats(read_tensors(data, file), file), config, file)
    return PeftFolder(
        where,
        sha256_bytes(data),
        config,
        _scaled(factors, config, file),
        saved,
        _own_head(folder / HEAD) if (folder / HEAD).is_file() else None,
        _labels(folder / MODEL_CONFIG) if (folder / MODEL_CONFIG).is_file() else (),
    )


def _require_adapter(folder: Path) -> None:
    if not folder.is_dir():
        no = f"{folder} is a file" if folder.exists() else f"no folder {folder}"
        raise NotFoundError(f"{no}; name the folder that holds {CONFIG} and {ADAPTER}")
    if (folder / CONFIG).is_file() and (folder / ADAPTER).is_file():
        return
    names = sorted(one.parent.name for one in folder.glob(f"*/{ADAPTER}"))
    inside = f"; name one of its folders: {', '.join(names[:20])}" if names else ""
    if (folder / MANIFEST).is_file():
        raise NotFoundError(f"{folder} is an export of a bank and not an adapter{inside}")
    if (folder / PICKLE).is_file():
        raise InputError(
            f"{folder / PICKLE} is a pickle, which is never opened: it could run anything. Save "
            "the adapter again where it is trusted: save_pretrained(..., safe_serialization=True)"
        )
    missing = CONFIG if not (folder / CONFIG).is_file() else ADAPTER
    if (folder / MODEL).is_file():
        raise InputError(
            f"{folder} holds {MODEL}, a whole model, and no {missing}; where an adapter was merged "
            "into it, save the adapter before merge_and_unload()"
        )
    raise NotFoundError(
        f"{folder} holds no {missing}{inside or '; name the folder of one PEFT adapter'}"
    )


def _bytes(path: Path, most: int = MAX_READ_BYTES) -> bytes:
    with os_errors_translated(path, "read"):
        if path.stat().st_size > most:
            raise InputError(f"{path} has more than {most:,} bytes; it is no adapter's file")
        return path.read_bytes()


def _json(path: Path) -> Any:
    try:
        return json.loads(_bytes(path, _MAX_JSON_BYTES))
    except MALFORMED as error:
        raise InputError(f"{path}: not JSON ({error})") from error


def _floats(tensors: Mapping[str, Tensor], file: str) -> dict[str, Tensor]:
    found = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(f"{file}: {name} is {tensor.dtype}, no floating-point numbers")
        found[name] = tensor.float()
        if not bool(torch.isfinite(found[name]).all()):
            raise InputError(f"{file}: {name} holds numbers that are not finite; train it again")
    return found


def _parted(
    tensors: Mapping[str, Tensor], config: PeftConfig, file: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """LoRA factors, and by path what was saved as a whole.

    Raises:
        InputError: a tensor that is neither.
    """
    factors: dict[str, Tensor] = {}
    saved: dict[str, Tensor] = {}
    odd = []
    for name, tensor in tensors.items():
        path = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and path.endswith(LORA_ENDS):
            factors[name] = tensor
        elif name.startswith(PREFIX) and config.saves(path) and "lora_" not in path:
            saved[path] = tensor
        else:
            odd.append(path)
    if odd:
        raise InputError(
            f"{file}: {_what(odd)}; {len(odd)} of {len(tensors)} tensors are neither LoRA factors "
            f"nor of modules that its configuration saves, the first is {odd[0]}"
        )
    if not factors:
        raise InputError(f"{file}: it holds no LoRA factors")
    return factors, saved


def _what(odd: Sequence[str]) -> str:
    """What tensors that have no place here mostly are."""
    if any(".lora_A." in name for name in odd):
        return "its names are not those that PEFT's save_pretrained() writes; save it with that"
    if any("lora_magnitude_vector" in name for name in odd):
        return f"it is a DoRA adapter, whose update is no product of two factors; {AGAIN}"
    if any(".base_layer." in name and "embed" not in name for name in odd):
        return (
            "it holds weights of its base, as PEFT saves those of a language model's head that it "
            "adapts; save it again with save_pretrained(..., save_embedding_layers=False)"
        )
    embeddings = [name for name in odd if "embed" in name or ".wte." in f".{name}."]
    if any("lora_" in name for name in embeddings):
        return f"it trained embeddings, which an expert leaves as they are; {AGAIN}"
    if embeddings:
        return (
            "it holds embeddings, which an expert leaves as they are; if they are the base's own, "
            "save it again with save_pretrained(..., save_embedding_layers=False), and if they "
            f"were trained, {AGAIN}"
        )
    if any(name.endswith(".bias") for name in odd):
        return f"it trained biases, which an expert leaves as they are; {AGAIN}"
    return "it holds more than an adapter"


def _scaled(factors: Mapping[str, Tensor], config: PeftConfig, file: str) -> Factors:
    try:
        pairs = lora_factors(factors, 1.0)
    except IntegrityError as error:
        raise InputError(f"{file}: {error}; the file is not whole") from error
    found = {}
    for path, (a, b) in sorted(pairs.items()):
        rank = config.rank_of(path)
        if a.shape[1] != rank:
            raise InputError(
                f"{file}: {path} has rank {a.shape[1]}, and {rank} by its configuration; the files "
                "do not belong together"
            )
        found[path] = a.contiguous(), (b * config.scale_of(path)).contiguous()
        if not bool(torch.isfinite(found[path][1]).all()):
            raise InputError(f"{file}: {path} is no longer finite once it is multiplied with alpha")
    return found


def _own_head(path: Path) -> OwnHead:
    tensors, about = read_safetensors(_bytes(path), str(path))
    try:
        scaled, dense = about.get("scaled", True), about.get("dense")
        head = Head(
            {f"head.{name}": one for name, one in _floats(tensors, str(path)).items()},
            about["pooling"],
            scaled,
            dense,
        )
        labels = tuple(str(label) for label in about["labels"])
        if not head.is_known or {"head.weight", "head.bias"} - head.tensors.keys():
            raise ValueError("no head")
        told = (str(about[name]) for name in ("kind", "backbone_digest", "id"))
        kind, backbone, expert = told
    except MALFORMED as error:
        raise IntegrityError(f"{path}: not the head of an expert ({error!r})") from error
    return OwnHead(head, kind, labels, backbone, expert)


def _labels(path: Path) -> tuple[str, ...]:
    """``id2label`` in the order of its numbers, unless nobody named them.

    Raises:
        InputError: it is no list of different names.
    """
    content = _json(path)
    named = content.get("id2label") if isinstance(content, Mapping) else None
    if not isinstance(named, Mapping):
        return ()
    labels = tuple(named.get(str(place)) for place in range(len(named)))
    if None in labels or len(set(labels)) != len(labels):
        raise InputError(f"{path}: id2label does not name outputs 0 to {len(named) - 1} once each")
    found = tuple(str(label) for label in labels)
    return () if all(one == f"LABEL_{place}" for place, one in enumerate(found)) else found
