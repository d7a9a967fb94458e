"""Which projections of a model are adapted: one table of families, one finder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from expertbank.errors import UnsupportedModelError

HeadPooling = Literal["mean", "last"]


@dataclass(frozen=True, slots=True)
class Family:
    """Where a family keeps its layers and, inside a layer, its projections.

    Attributes:
        layers: dotted path of the ``ModuleList`` of layers in the bare model.
        projections: role to dotted path inside one layer.
        pooling: how an expert's head reads the last hidden states.
    """

    layers: str
    projections: dict[str, str]
    pooling: HeadPooling = "mean"


def _roles(prefix: str, query: str, key: str, value: str) -> dict[str, str]:
    return {"query": prefix + query, "key": prefix + key, "value": prefix + value}


_BERT = Family("encoder.layer", _roles("attention.self.", "query", "key", "value"))
_DISTIL = Family("transformer.layer", _roles("attention.", "q_lin", "k_lin", "v_lin"))
_LLAMA = Family("layers", _roles("self_attn.", "q_proj", "k_proj", "v_proj"), "last")

FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": _DISTIL,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""Model type (``config.model_type``) to family. What is not here is refused, not guessed."""


@dataclass(frozen=True, slots=True)
class Target:
    """One adapted projection ``y = x W + b``, ``W [in_features, out_features]``."""

    path: str
    layer: int
    role: str
    in_features: int
    out_features: int


def family_of(model_type: str, model: nn.Module) -> Family:
    """Family of a model type.

    Raises:
        UnsupportedModelError: not in the table; the message lists the linear modules of the
            model, which is what a new table entry needs.
    """
    family = FAMILIES.get(model_type)
    if family is None:
        names = sorted(
            {
                name.rsplit(".", 1)[-1]
                for name, module in model.named_modules()
                if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
            }
        )
        raise UnsupportedModelError(
            f"backbones of type {model_type!r} are not supported yet; "
            f"supported: {', '.join(sorted(FAMILIES))}. "
            f"Its linear modules are named: {', '.join(names) or 'none found'}"
        )
    return family


def layers_of(model: nn.Module, family: Family) -> Sequence[nn.Module]:
    """The model's layers, lowest first."""
    layers = model.get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)
    return list(layers)


def find_targets(
    model: nn.Module, family: Family, route_layer: int, roles: Sequence[str]
) -> tuple[Target, ...]:
    """Adapted projections of the branch: layers ``route_layer`` and above, lowest first.

    Raises:
        UnsupportedModelError: a projection is missing or not a plain linear module.
    """
    targets = []
    for index in range(route_layer, len(layers_of(model, family))):
        for role in roles:
            path = f"{family.layers}.{index}.{family.projections[role]}"
            try:
                module = model.get_submodule(path)
            except AttributeError as error:
                raise UnsupportedModelError(
                    f"the backbone has no module {path}, which its family should have"
                ) from error
            if not isinstance(module, nn.Linear):
                raise UnsupportedModelError(
                    f"{path} is a {type(module).__name__}; only linear projections can be adapted"
                )
            targets.append(Target(path, index, role, module.in_features, module.out_features))
    return tuple(targets)
