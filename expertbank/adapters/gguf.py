"""An expert's update as an adapter file of llama.cpp: ordinary LoRA factors under its names.

The pairs are those of the export for PEFT, with ``adapter.lora.alpha`` the rank, so that scale 1
adds the update as it is. Names come from package ``gguf`` (extra ``gguf``), as those of the base
file do. Where a base file holds rows of queries and keys in another order than transformers, the
rows of ``lora_b`` are put into that order. The format is what ``src/llama-adapter.cpp`` of
https://github.com/ggml-org/llama.cpp reads and its ``convert_lora_to_gguf.py`` writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expertbank.adapters.peft import padded
from expertbank.adapters.slots import Factors
from expertbank.adapters.targets import adaptable_modules
from expertbank.backbones.causal import Around
from expertbank.backbones.gguf_header import read_header
from expertbank.backbones.reading import EXTRA
from expertbank.errors import InputError, IntegrityError, UnsupportedModelError

_A, _B = ".lora_a", ".lora_b"
KIND, ALPHA = "adapter.type", "adapter.lora.alpha"


@dataclass(frozen=True, slots=True)
class Stored:
    """How a base file holds one projection.

    Attributes:
        name: llama.cpp's name of its weight.
        heads: heads whose rows are interleaved; 0 where rows are in transformers' order.
    """

    name: str
    heads: int = 0


def require_package() -> None:
    """Refuse to write an adapter file without the package that does.

    Raises:
        InputError: package ``gguf`` is not installed.
    """
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"adapters for llama.cpp are written by package gguf, which is not installed: {EXTRA}"
        ) from error


def architecture_of(around: Around) -> str:
    """What llama.cpp calls the family of a backbone.

    Raises:
        UnsupportedModelError: it is not known how GGUF files hold that family, or the backbone
            reads both ways, which the architecture does not.
    """
    held, config = around.backbone.family.gguf, _config(around)
    if held is None:
        raise UnsupportedModelError(
            f"an adapter for llama.cpp cannot be written for a backbone of type "
            f"{config.model_type!r}: how GGUF files hold its projections is not known here; export "
            "with --format peft, and see whether llama.cpp's convert_lora_to_gguf.py takes it"
        )
    if not around.is_causal:
        raise UnsupportedModelError(
            f"an adapter for llama.cpp cannot be written for this backbone of type "
            f"{config.model_type!r}: each of its tokens sees those after it, and in a model of "
            f"architecture {held.architecture!r}, which the file would name, none does; export "
            "with --format peft"
        )
    return held.architecture


def stored_as(around: Around) -> dict[str, Stored]:
    """How base files hold the linear modules of the layers, by path in the language model.

    Modules that llama.cpp has no name for are left out, and, of a backbone that is a GGUF file,
    those whose weights are not in it under that name and in that shape.

    Raises:
        UnsupportedModelError: as ``architecture_of``, or the backbone's file is of another
            architecture.
    """
    import gguf

    architecture, family = architecture_of(around), around.backbone.family
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in kinds:
        raise UnsupportedModelError(
            f"package gguf knows no architecture {architecture!r}; upgrade it: {EXTRA}"
        )
    names = gguf.get_tensor_name_map(kinds[architecture], len(around.backbone.layers))
    held, found = _held(around, architecture), {}
    for inside, shape in adaptable_modules(around.backbone.model, family, 0).items():
        path, name = f"{around.prefix}{inside}", names.get_name(f"{around.prefix}{inside}")
        weight = f"{name}.weight"
        if name is not None and (held is None or held.get(weight) == shape):
            found[path] = Stored(weight, _heads(around, inside))
    return found


def _held(around: Around, architecture: str) -> Mapping[str, tuple[int, ...]] | None:
    """Shapes ``(in, out)`` of the tensors in a backbone's GGUF file; ``None`` for a folder."""
    file = around.backbone.place.path
    if not file.is_file():
        return None
    header = read_header(file)
    if header.architecture != architecture:
        raise UnsupportedModelError(
            f"the backbone's file is of architecture {header.architecture!r}, and an adapter for "
            f"its family would be of {architecture!r}, which llama.cpp does not put together"
        )
    return {tensor.name: tensor.shape for tensor in header.tensors}


def write_adapter(
    file: Path, factors: Factors, stored: Mapping[str, Stored], values: Mapping[str, str | float]
) -> None:
    """Write an adapter file, in float32.

    Args:
        file: where to.
        factors: projection path to ``A [in, r]`` and ``alpha·B [r, out]``; ranks may differ.
        stored: how the base file holds modules.
        values: metadata by key, ``general.architecture`` among them.

    Raises:
        UnsupportedModelError: the base file does not hold one of the projections.
    """
    import gguf

    absent = sorted(factors.keys() - stored.keys())
    if absent:
        raise UnsupportedModelError(
            f"llama.cpp has no tensor for {absent[0]} and {len(absent) - 1} more modules in its "
            "files of this backbone; only experts that adapt others can be exported for it"
        )
    told = dict(values)
    writer = gguf.GGUFWriter(str(file), told.pop("general.architecture"))
    try:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(KIND, "lora")
        for key, value in told.items():
            add = writer.add_string if isinstance(value, str) else writer.add_float32
            add(key, value)
        pairs = padded(factors)
        writer.add_float32(ALPHA, float(next(iter(pairs.values()))[0].shape[0]))
        for path, (lora_a, lora_b) in sorted(pairs.items()):
            one = stored[path]
            rows = interleaved(lora_b, one.heads) if one.heads else lora_b
            for end, tensor in ((_A, lora_a), (_B, rows)):
                writer.add_tensor(f"{one.name}{end}", tensor.float().cpu().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def read_adapter(file: Path, stored: Mapping[str, Stored]) -> dict[str, tuple[Tensor, Tensor]]:
    """Inverse of ``write_adapter``: what a file adds to the backbone, by llama.cpp's rules.

    Args:
        file: an adapter file.
        stored: how the base file holds modules.

    Returns:
        Projection path to ``A [in, rank]`` and ``scale·B [rank, out]``, float32.

    Raises:
        IntegrityError: it is no LoRA adapter, or one for other modules.
    """
    import gguf

    values = read_header(file).values
    if (values.get("general.type"), values.get(KIND)) != ("adapter", "lora"):
        raise IntegrityError(f"{file} is no LoRA adapter of llama.cpp's")
    held = {tensor.name: torch.tensor(tensor.data) for tensor in gguf.GGUFReader(str(file)).tensors}
    factors = {}
    for path, one in stored.items():
        lora_a, lora_b = held.pop(f"{one.name}{_A}", None), held.pop(f"{one.name}{_B}", None)
        if lora_a is None and lora_b is None:
            continue
        if lora_a is None or lora_b is None or lora_b.shape[1:] != lora_a.shape[:1]:
            raise IntegrityError(f"{file}: the LoRA factors of {one.name} do not fit each other")
        rows = apart(lora_b, one.heads) if one.heads else lora_b
        factors[path] = lora_a.T, rows.T * (values[ALPHA] / lora_a.shape[0])
    if held:
        raise IntegrityError(f"{file}: {sorted(held)[0]} is for no module of the backbone")
    return factors


def interleaved(rows: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys ``[out, r]`` as Llama's base files hold them.

    The first half of a head's rows rotates with the second, and each is followed by its partner.
    """
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def apart(rows: Tensor, heads: int) -> Tensor:
    """Inverse of ``interleaved``."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _config(around: Around) -> Any:
    model: Any = around.backbone.model
    return model.config


def _heads(around: Around, path: str) -> int:
    """Heads whose rows the base file interleaves in the projection at ``path``; 0 for none."""
    family, config = around.backbone.family, _config(around)
    if family.gguf is None or not family.gguf.interleaved:
        return 0
    if path.endswith(f".{family.projections['query']}"):
        return int(config.num_attention_heads)
    if path.endswith(f".{family.projections['key']}"):
        return int(config.num_key_value_heads)
    return 0
