"""Which projections of a model are adapted, and where each role stands in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from expertbank.adapters.columns import Columns
from expertbank.adapters.families import FAMILIES, Family
from expertbank.errors import UnsupportedModelError


@dataclass(frozen=True, slots=True)
class Target:
    """One adapted role ``y = x W + b`` of one layer, ``W [in_features, out_features]``.

    Attributes:
        path: the module that computes it.
        layer: number of its layer.
        role: ``query``, ``key`` or ``value``.
        in_features: columns the module reads.
        out_features: columns of the role, which of a fused module are only some.
        columns: which columns of a fused module; ``None`` where the module is the role's own.
    """

    path: str
    layer: int
    role: str
    in_features: int
    out_features: int
    columns: Columns | None = None


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
                if linear_shape(module) is not None
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


def default_roles(model: nn.Module, family: Family) -> tuple[str, ...]:
    """Query and value, as far as ``model`` computes them once a pass."""
    barred = family.shared(model.config) if family.shared else frozenset()
    return tuple(role for role in ("query", "value") if role not in barred)


def find_targets(
    model: nn.Module, family: Family, route_layer: int, roles: Sequence[str] | None = None
) -> tuple[Target, ...]:
    """Adapted roles of the branch: layers ``route_layer`` and above, lowest first.

    Args:
        model: the bare model.
        family: its family.
        route_layer: first layer of the branch; 0 for all layers.
        roles: which to adapt; ``None`` for ``default_roles``.

    Raises:
        UnsupportedModelError: a projection is missing, is not a plain linear module, has other
            columns than its family says, or is used for something else in the same pass.
    """
    roles = default_roles(model, family) if roles is None else roles
    barred = sorted(set(roles) & family.shared(model.config)) if family.shared else []
    if barred:
        raise UnsupportedModelError(
            f"this backbone puts its relative positions through the projections of "
            f"{' and '.join(barred)} too, once for a whole batch; adapt value only"
        )
    targets = []
    for index in range(route_layer, len(layers_of(model, family))):
        for role in roles:
            path = f"{family.layers}.{index}.{family.projections[role]}"
            inputs, outputs = _shape_at(model, path)
            columns = family.fused(model.config, role) if family.fused else None
            if columns is not None and columns.width != outputs:
                raise UnsupportedModelError(
                    f"{path} has {outputs} columns where its configuration asks for {columns.width}"
                )
            features = outputs if columns is None else columns.features
            targets.append(Target(path, index, role, inputs, features, columns))
    return tuple(targets)


def adaptable_modules(
    model: nn.Module, family: Family, route_layer: int
) -> dict[str, tuple[int, int]]:
    """Every module of the branch that an expert may adapt: path to ``(in, out)`` in full."""
    barred: frozenset[str] = family.shared(model.config) if family.shared else frozenset()
    roles = [role for role in family.projections if role not in barred]
    targets = find_targets(model, family, route_layer, roles)
    return {target.path: _shape_at(model, target.path) for target in targets}


def _shape_at(model: nn.Module, path: str) -> tuple[int, int]:
    try:
        module: Any = model.get_submodule(path)
    except AttributeError as error:
        raise UnsupportedModelError(
            f"the backbone has no module {path}, which its family should have"
        ) from error
    shape = linear_shape(module)
    if shape is None:
        raise UnsupportedModelError(
            f"{path} is a {type(module).__name__}; only linear projections can be adapted"
        )
    return shape
