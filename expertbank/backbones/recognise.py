"""Which family a model belongs to, as it is listed or found by trying it; and its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from expertbank.backbones import probe
from expertbank.backbones.families import FAMILIES, Family, listed
from expertbank.backbones.roles import find_roles
from expertbank.errors import UnsupportedModelError
from expertbank.records import HeadPooling

_LAYERS = "single list of layers that each run once a pass"


def family_of(model_type: str, model: nn.Module) -> Family:
    """Family of a model, as it is listed or, for any other model, found by trying it.

    The layers of a model that is not in the table are the one list whose length is the
    configuration's number of layers, each called once a pass and in order; its roles are those
    that ``find_roles`` finds. Without a clear finding it has none, and its modules must be named
    (``named_targets``).

    Args:
        model_type: the configuration's ``model_type``.
        model: the bare model, in eval mode.

    Raises:
        UnsupportedModelError: no such layers, for example shared ones, or an encoder-decoder.
    """
    family = listed(model_type)
    if family is None:
        return _unlisted(model_type, model)
    config: Any = model.config
    both_ways = getattr(config, "use_bidirectional_attention", None) is True
    if both_ways or getattr(config, "is_causal", None) is False:
        return replace(family, pooling="mean")  # a decoder's weights, trained on as an encoder
    return family


def _unlisted(model_type: str, model: nn.Module) -> Family:
    config: Any = model.config
    depth = getattr(config, "num_hidden_layers", None)
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    outer = [name for name in lists if not any(name.startswith(f"{one}.") for one in lists)]
    whole = getattr(config, "is_encoder_decoder", False)
    try:
        if len(outer) == 1 and not whole:
            layers = [f"{outer[0]}.{index}" for index in range(config.num_hidden_layers)]
            width = (config.hidden_size,)
            order = [path for path, _ in probe.calls(model, layers)]
            once = order == layers and not probe.misfits(model, layers)
            if once and probe.output_shape(model) == width:
                pooling: HeadPooling = "last" if probe.is_causal(model) else "mean"
                return _with_roles(model, layers, Family(outer[0], {}, pooling))
    except Exception as error:  # noqa: BLE001 - whatever a foreign model raises, it does not fit
        reason = f"it could not be tried on a few tokens ({type(error).__name__}: {error})"
    else:
        reason = f"it has no {_LAYERS}"
        if whole:
            reason = (
                "it has an encoder and a decoder, and of those only models whose encoder "
                "transformers loads alone, from a folder, can be a backbone, such as T5"
            )
    raise UnsupportedModelError(
        f"backbones of type {model_type!r} are not supported: {reason}. "
        f"Supported: {', '.join(sorted(FAMILIES.names()))}, and other models with a {_LAYERS}, "
        f"whose modules --target names. Linear modules of this one: {linear_names(model)}"
    )


def _with_roles(model: nn.Module, layers: Sequence[str], family: Family) -> Family:
    """The family with its projections, where trying the model shows which they are."""
    linear = [
        f"{layer}.{inside}"
        for layer in layers
        for inside, part in model.get_submodule(layer).named_modules()
        if linear_shape(part) is not None
    ]
    found = find_roles(model, layers, linear)
    if found is None:
        return family
    columns = found.columns
    fused = None if columns is None else lambda config, role: columns[role]
    return replace(family, projections=dict(found.projections), fused=fused)


def linear_names(module: nn.Module) -> str:
    """Last parts of the names of a module's linear modules, as a message shows them."""
    names = {
        name.rsplit(".", 1)[-1]
        for name, part in module.named_modules()
        if linear_shape(part) is not None
    }
    return ", ".join(sorted(names)) or "none found"


def layers_of(model: nn.Module, family: Family) -> Sequence[nn.Module]:
    """The model's layers, lowest first."""
    layers = model.get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)
    return list(layers)


def linear_shape(module: nn.Module) -> tuple[int, int] | None:
    """``(in, out)`` of a linear module, ``None`` of any other.

    GPT-2's ``Conv1D`` is a linear module too; it only keeps its weight as ``[in, out]``.
    """
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    weight = getattr(module, "weight", None)
    if type(module).__name__ == "Conv1D" and weight is not None and weight.dim() == 2:
        return int(weight.shape[0]), int(weight.shape[1])
    return None
