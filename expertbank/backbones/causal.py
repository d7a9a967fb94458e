"""The language model that a bare decoder is part of, as programs that generate know its modules.

A bank loads the bare model (``AutoModel``); engines, and PEFT for generation, load the class with
the words' scores on top (``AutoModelForCausalLM``), in which every module stands under one more
name: ``layers.3`` is ``model.layers.3`` there, in GPT-2 ``transformer.h.3``. Names that lack it
match nothing, and engines load such an adapter without a word and without effect.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from expertbank.backbones import probe
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.reading import LOADING


@dataclass(frozen=True, slots=True)
class Around:
    """A model and the backbone inside it.

    Attributes:
        model: the outer model; its own modules, such as ``lm_head``, have no weights.
        inner: path of the bare model in it; empty where it is the bare model itself.
        backbone: the same weights as the caller's, under the modules that ``model`` holds.
    """

    model: nn.Module
    inner: str
    backbone: Backbone

    @property
    def prefix(self) -> str:
        """What stands before the bare model's paths."""
        return f"{self.inner}." if self.inner else ""

    @property
    def name(self) -> str:
        """The class, as the reader of an export is told."""
        return type(self.model).__name__

    @property
    def is_causal(self) -> bool:
        """Whether it is a language model around the bare one."""
        return bool(self.inner)


def as_loaded_elsewhere(backbone: Backbone) -> Around:
    """The model in which other programs look for the backbone's modules.

    That is the causal language model of a decoder, and the bare model of an encoder, or of a
    decoder that transformers has no such class for.

    Args:
        backbone: costs no memory worth naming: weights are shared, and the rest is not made.
    """
    view = backbone.view()
    if not probe.is_causal(view.model):
        return Around(view.model, "", view)
    outer = _language_model(view.model.config)
    if outer is None:
        return Around(view.model, "", view)
    inside = [name for name, part in outer.named_modules() if type(part) is type(view.model)]
    if len(inside) != 1:
        return Around(view.model, "", view)
    outer.set_submodule(inside[0], view.model)
    return Around(outer.eval(), inside[0], replace(view, model=outer.get_submodule(inside[0])))


def _language_model(config: Any) -> nn.Module | None:
    """The class of transformers around a decoder, without weights; ``None`` where it has none."""
    from transformers import AutoModelForCausalLM

    try:
        with LOADING, torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    except (AttributeError, ImportError, KeyError, ValueError):
        return None
    return model
