"""Heads that come with an adapter: another bank's, and those of transformers' classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from expertbank.backbones.backbone import Backbone
from expertbank.backbones.weight_files import has_tensor
from expertbank.errors import InputError
from expertbank.models.expert_file import DENSE
from expertbank.models.heads import head_width
from expertbank.records import Activation, HeadPooling

FIT = "--fit-head fits a new head on the training rows instead"


@dataclass(frozen=True, slots=True)
class Head:
    """A head, and what it reads.

    Attributes:
        tensors: as in an expert's file, ``head.`` before each name.
        pooling: what it reads of the last hidden states.
        scaled: whether that is scaled to root mean square 1.
        dense: activation of the dense layer before it, if it has one.
    """

    tensors: Mapping[str, Tensor]
    pooling: HeadPooling
    scaled: bool = True
    dense: Activation | None = None

    @property
    def is_known(self) -> bool:
        """Whether such a head can be read: one of pairs is scaled, with nothing before it."""
        own = self.scaled is True and self.dense is None
        return self.pooling in get_args(HeadPooling) and (own or self.pooling != "pair")

    @property
    def outputs(self) -> int:
        """Outputs for one sequence."""
        return int(self.tensors["head.weight"].shape[0])


def classifier_head(
    saved: Mapping[str, Tensor],
    backbone: Backbone,
    where: str,
    update: tuple[Tensor, Tensor] | None = None,
) -> Head:
    """The head of transformers' class for labelled sequences, from what an adapter saved of it.

    Args:
        saved: parameters by path in that class.
        backbone: the bank's.
        where: the adapter, for messages.
        update: ``A [hidden, r]`` and ``B [r, hidden]`` of the dense layer before it, if the
            adapter changes that too.

    Raises:
        InputError: it is another head, is not whole, or does not fit the backbone.
    """
    known = backbone.family.classifier
    if known is None or f"{known.output}.weight" not in saved:
        raise InputError(
            f"{where}: the head it saved ({', '.join(sorted(saved))}) is none that is known for "
            f"backbones of type {_type(backbone)}; {FIT}"
        )
    if known.pooling == "last" and _ends_in_padding(backbone):
        raise InputError(
            f"{where}: its head reads the last token that is not the pad token, and this "
            f"backbone's tokenizer ends every text with {backbone.tokenizer.pad_token!r}, which is "
            f"that: an expert's head would read another token; {FIT}"
        )
    left = dict(saved)
    weight = left.pop(f"{known.output}.weight")
    if weight.dim() != 2:
        raise InputError(f"{where}: {known.output}.weight has {weight.dim()} dimensions, not 2")
    bias = left.pop(f"{known.output}.bias", torch.zeros(len(weight)))
    tensors = {"head.weight": weight, "head.bias": bias}
    if known.dense is not None:
        config: Any = backbone.model.config
        if getattr(config, "pooler_hidden_act", known.activation) != known.activation:
            raise InputError(
                f"{where}: a head behind {config.pooler_hidden_act} is not known; {FIT}"
            )
        layer = _dense(left, known.dense, backbone, where)
        tensors |= dict(zip(DENSE, layer, strict=True))
    if left:
        raise InputError(
            f"{where}: it saved {', '.join(sorted(left)[:5])}, which are no part of the head that "
            f"{_type(backbone)} has for labelled sequences; {FIT}"
        )
    require_width(tensors, known.pooling, backbone, where)
    if update is not None:
        product = (update[0] @ update[1]).T
        if product.shape != tensors[DENSE[0]].shape:
            raise InputError(f"{where}: {known.dense} has another width; it is another model's")
        tensors[DENSE[0]] = tensors[DENSE[0]] + product
    activation = None if known.dense is None else known.activation
    return Head(tensors, known.pooling, False, activation)


def _ends_in_padding(backbone: Backbone) -> bool:
    """Whether what the tokenizer puts behind a text is the model's pad token.

    Where the configuration names none it is the tokenizer's, as whoever trains in batches sets it.
    """
    config: Any = backbone.model.config
    pad = getattr(config, "pad_token_id", None)
    pad = backbone.tokenizer.pad_token_id if pad is None else pad
    backend = backbone.tokenizer.backend_tokenizer
    return any(_last_added(one) == pad for one in (backend.encode("a"), backend.encode("a", "a")))


def _last_added(encoded: Any) -> int | None:
    """The last token of a text, if the template put it there; ``None`` for one of the text's."""
    marks = zip(encoded.ids, encoded.special_tokens_mask, encoded.attention_mask, strict=True)
    real = [(number, added) for number, added, read in marks if read]
    return real[-1][0] if real and real[-1][1] else None


def _dense(
    left: dict[str, Tensor], path: str, backbone: Backbone, where: str
) -> tuple[Tensor, Tensor]:
    """The layer before the head: saved with it, or the bare model's own."""
    names = [name for name in left if f".{name}".endswith(f".{path}.weight")]
    if names:
        bias = f"{names[0].removesuffix('weight')}bias"
        if bias not in left:
            raise InputError(f"{where}: {bias} is missing")
        return left.pop(names[0]), left.pop(bias)
    files = backbone.place.path
    modules = dict(backbone.model.named_modules())
    if path in modules and files.is_dir() and has_tensor(files, f"{path}.weight"):
        module: Any = modules[path]
        return module.weight.detach().cpu().float(), module.bias.detach().cpu().float()
    raise InputError(
        f"{where}: its head reads {path}, which neither the adapter nor the backbone's files hold: "
        "it was made of random numbers when training began, and PEFT keeps only what "
        f"modules_to_save names. Its answers cannot be had again; {FIT}, or train it again with "
        f"{path.partition('.')[0]} in modules_to_save"
    )


def require_width(
    tensors: Mapping[str, Tensor], pooling: HeadPooling, backbone: Backbone, where: str
) -> None:
    """Refuse a head that does not read this backbone's states.

    Raises:
        InputError: it is of another width.
    """
    width = head_width(backbone.output_size, pooling)
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    shapes = [tuple(tensors[name].shape) for name in DENSE if name in tensors]
    fits = weight.dim() == 2 and weight.shape[1] == width and bias.shape == weight.shape[:1]
    if not fits or shapes not in ([], [(width, width), (width,)]):
        raise InputError(
            f"{where}: its head {[list(t.shape) for t in tensors.values()]} does not read the "
            f"{width} numbers that this backbone gives it; it was made for another model"
        )


def _type(backbone: Backbone) -> str:
    config: Any = backbone.model.config
    return str(config.model_type)
