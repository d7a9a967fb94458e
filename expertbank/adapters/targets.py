"""Which projections of a model are adapted, and where each role stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from expertbank.backbones import probe
from expertbank.backbones.families import FAMILIES, Family
from expertbank.backbones.recognise import layers_of, linear_names, linear_shape
from expertbank.backbones.slices import Slices
from expertbank.config import AdapterConfig, FeatureSpec
from expertbank.errors import InputError, UnsupportedModelError


@dataclass(frozen=True, slots=True)
class Target:
    """One adapted role ``y = x W + b`` of one layer, ``W [in_features, out_features]``.

    Attributes:
        path: the module that computes it.
        layer: number of its layer.
        role: ``query``, ``key`` or ``value``; of a module chosen by name, its path in the layer.
        in_features: columns the module reads.
        out_features: columns of the role, which of a fused module are only some.
        columns: which columns of a fused module; ``None`` where the module is the role's own.
    """

    path: str
    layer: int
    role: str
    in_features: int
    out_features: int
    columns: Slices | None = None


def default_roles(model: nn.Module, family: Family) -> tuple[str, ...]:
    """Query and value, as far as ``model`` computes them once a pass."""
    barred = family.shared(model.config) if family.shared else frozenset()
    return tuple(role for role in ("query", "value") if role not in barred)


def targets_of(
    adapter: AdapterConfig, spec: FeatureSpec, model: nn.Module, family: Family
) -> tuple[Target, ...]:
    """What an expert adapts, lowest layer first.

    Args:
        adapter: what was wished for.
        spec: of its bank.
        model: the bare model, in eval mode.
        family: its family.

    Raises:
        InputError, UnsupportedModelError: as of ``named_targets`` and ``find_targets``.
    """
    first = adapter.start(spec)
    if adapter.modules:
        return named_targets(model, family, first, adapter.modules)
    return find_targets(model, family, first, adapter.projections)


def find_targets(
    model: nn.Module, family: Family, first_layer: int, roles: Sequence[str] | None = None
) -> tuple[Target, ...]:
    """Adapted roles of layers ``first_layer`` and above, lowest first.

    Args:
        model: the bare model.
        family: its family.
        first_layer: lowest layer to adapt; 0 for all layers.
        roles: which to adapt; ``None`` for ``default_roles``.

    Raises:
        InputError: there is no such layer.
        UnsupportedModelError: a projection is missing, is not a plain linear module, has other
            columns than its family says, or is used for something else in the same pass.
    """
    if not family.projections:
        config: Any = model.config
        raise UnsupportedModelError(
            f"backbones of type {config.model_type!r} are not in the table of families, and trying "
            "one did not show which modules are query and value in every layer, so what to adapt "
            "must be named, for example --target q_proj --target v_proj; or install a "
            f"package that brings the family (entry point {FAMILIES.group}). Linear modules of "
            f"its layers: {linear_names(model.get_submodule(family.layers))}"
        )
    roles = default_roles(model, family) if roles is None else roles
    barred = sorted(set(roles) & family.shared(model.config)) if family.shared else []
    if barred:
        raise UnsupportedModelError(
            f"this backbone puts its relative positions through the projections of "
            f"{' and '.join(barred)} too, once for a whole batch; adapt value only"
        )
    _require_layer(model, family, first_layer)
    targets = []
    for index in range(first_layer, len(layers_of(model, family))):
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


def named_targets(
    model: nn.Module, family: Family, first_layer: int, names: Sequence[str]
) -> tuple[Target, ...]:
    """Modules to adapt by name, each as a whole, whatever it computes.

    Args:
        model: the bare model, in eval mode.
        family: its family.
        first_layer: lowest layer to adapt.
        names: last parts of dotted paths inside a layer: ``q_proj`` or ``self_attn.q_proj``.

    Raises:
        InputError: there is no such layer.
        UnsupportedModelError: no linear module has such a name, or it does not run exactly once
            a pass on every row's own tokens.
    """
    _require_layer(model, family, first_layer)
    targets = []
    for path, layer, inside, shape in _linear_modules(model, family, first_layer):
        if any(inside == name or inside.endswith(f".{name}") for name in names):
            targets.append(Target(path, layer, inside, *shape))
    layers = model.get_submodule(family.layers)
    for name in names:
        if not any(one.role == name or one.role.endswith(f".{name}") for one in targets):
            raise UnsupportedModelError(
                f"no linear module of layers {first_layer} and above is named {name!r}; "
                f"there are: {linear_names(layers)}"
            )
    misfits = probe.misfits(model, [target.path for target in targets])
    if misfits:
        raise UnsupportedModelError(
            f"{misfits[0]} cannot be adapted: a pass does not call it exactly once on all tokens "
            "of the batch"
        )
    return tuple(targets)


def adaptable_modules(
    model: nn.Module, family: Family, first_layer: int
) -> dict[str, tuple[int, int]]:
    """Every linear module of layers ``first_layer`` and above: path to ``(in, out)`` in full."""
    return {path: shape for path, _, _, shape in _linear_modules(model, family, first_layer)}


def lowest_layer(paths: Iterable[str], family: Family) -> int:
    """Number of the lowest layer that has one of ``paths``."""
    return min(int(path.removeprefix(f"{family.layers}.").partition(".")[0]) for path in paths)


def weight_of(model: nn.Module, target: Target) -> Tensor:
    """The frozen weight ``[in, out]`` of a target, its own columns only, in float32."""
    module: Any = model.get_submodule(target.path)
    weight: Tensor = module.weight.detach().float()
    # nn.Linear keeps [out, in], GPT-2's Conv1D [in, out].
    weight = weight.T if isinstance(module, nn.Linear) else weight
    return weight if target.columns is None else target.columns.take(weight)


def _require_layer(model: nn.Module, family: Family, first_layer: int) -> None:
    """Refuse to adapt from a layer on that is not there.

    Raises:
        InputError: there is no such layer.
    """
    depth = len(layers_of(model, family))
    if first_layer >= depth:
        raise InputError(
            f"there is no layer {first_layer} to adapt from: the backbone's are 0 to {depth - 1}"
        )


def _linear_modules(
    model: nn.Module, family: Family, first_layer: int
) -> Iterator[tuple[str, int, str, tuple[int, int]]]:
    """Path, layer, path inside the layer, and shape."""
    for index, layer in enumerate(layers_of(model, family)):
        for inside, module in layer.named_modules():
            shape = linear_shape(module)
            if index >= first_layer and shape is not None:
                yield f"{family.layers}.{index}.{inside}", index, inside, shape


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
