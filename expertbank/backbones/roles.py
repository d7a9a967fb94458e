"""Which linear modules of a layer compute query, key and value, found by what depends on what.

No name is read. In attention a token's query changes that token's output alone; its key and its
value change the outputs of other tokens; and where there is only one token, which attends to
itself whatever query and key say, the value alone changes anything. So derivatives of a layer's
output by what its linear modules put out, in a pass over five tokens and one over single ones,
tell the roles apart, column by column in a module that computes them together.

Where that gives no clear answer, such as for latent attention, mixtures of kinds of layers or
attention sinks, none is given, and the modules to adapt must be named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.backbones import probe
from expertbank.backbones.slices import Slices
from expertbank.config import ROLES
from expertbank.errors import InputError

_ALONE = 1e-6
"""A derivative in the pass over one token below this share of the largest is none: that a softmax
over one score does not depend on it holds but for rounding."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Where the roles are.

    Attributes:
        projections: role to the path of its module inside a layer.
        columns: role to its columns of the one module that computes all; ``None`` where each has
            a module of its own.
    """

    projections: Mapping[str, str]
    columns: Mapping[str, Slices] | None


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass: what was added to linear modules' outputs, all zero, and the layers' outputs."""

    added: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    def derivatives(self, layer: str, token: int) -> dict[str, Tensor]:
        """By path inside the layer: the derivative of its output at a token, by every token's.

        Each is ``[rows, tokens, width]``, zero where the output does not depend on it.
        """
        paths = [path for path in self.added if path.startswith(f"{layer}.")]
        if not paths:
            return {}
        output = self.outputs[layer][:, token].float()
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        found = torch.autograd.grad(
            (output * weights.to(output.device)).sum(),
            [self.added[path] for path in paths],
            retain_graph=True,
            allow_unused=True,
        )
        return {
            path.removeprefix(f"{layer}."): (
                torch.zeros_like(self.added[path]) if one is None else one.abs().float()
            )
            for path, one in zip(paths, found, strict=True)
        }


def find_roles(model: nn.Module, layers: Sequence[str], linear: Sequence[str]) -> Roles | None:
    """The modules of query, key and value, the same in every layer; ``None`` if that is not clear.

    Args:
        model: the bare model, in eval mode.
        layers: paths of its layers.
        linear: paths of the linear modules in them.
    """
    ids = probe.tokens(model)
    # [rows, tokens], and every token as a row of its own
    several, alone = (_run(model, layers, linear, part) for part in (ids, ids.reshape(-1, 1)))
    of_layers = [_of_layer(several, alone, layer) for layer in layers]
    first = of_layers[0] if of_layers else None
    if first is None or any(one != first for one in of_layers):
        return None
    paths = [f"{layer}.{inside}" for layer in layers for inside in set(first.projections.values())]
    return None if probe.misfits(model, paths) else first


def _run(model: nn.Module, layers: Sequence[str], linear: Sequence[str], ids: Tensor) -> _Pass:
    added: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def add(path: str, module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or output.shape[:2] != ids.shape or output.dim() != 3:
            return output
        added[path] = torch.zeros_like(output, requires_grad=True)
        return output + added[path]

    def keep(path: str, module: nn.Module, inputs: Any, output: Any) -> None:
        outputs[path] = output if isinstance(output, Tensor) else output[0]

    with ExitStack() as hooked, torch.enable_grad():
        for paths, hook in ((linear, add), (layers, keep)):
            for path in paths:
                module = model.get_submodule(path)
                hooked.enter_context(module.register_forward_hook(partial(hook, path)))
        probe.last_states(model, ids)
    return _Pass(added, outputs)


def _of_layer(several: _Pass, alone: _Pass, layer: str) -> Roles | None:
    last = several.outputs[layer].shape[1] - 1
    far, near = several.derivatives(layer, last), alone.derivatives(layer, 0)
    least = _ALONE * max((float(one.max()) for one in near.values()), default=0.0)
    masks: dict[str, list[tuple[str, Tensor]]] = {role: [] for role in ROLES}
    for inside in far.keys() & near.keys():
        own = far[inside][:, last].amax(0) > 0
        other = far[inside][:, :last].amax((0, 1)) > 0
        single = near[inside].amax((0, 1)) > least
        if bool((single & ~other).any()):
            continue  # it works on every token by itself: what is zero there may be by chance
        told = {"query": own & ~other & ~single, "key": other & ~single, "value": other & single}
        for role, mask in told.items():
            if bool(mask.any()):
                masks[role].append((inside, mask))
    if any(len(found) != 1 for found in masks.values()):
        return None
    return _as_roles({role: found[0] for role, found in masks.items()})


def _as_roles(found: Mapping[str, tuple[str, Tensor]]) -> Roles | None:
    """Modules of their own, every column of which is the role's; or the columns of one module."""
    projections = {role: inside for role, (inside, _) in found.items()}
    modules = len(set(projections.values()))
    if modules == len(found) and all(bool(mask.all()) for _, mask in found.values()):
        return Roles(projections, None)
    if modules != 1:
        return None
    columns = {role: _slices(mask) for role, (_, mask) in found.items()}
    known = {role: one for role, one in columns.items() if one is not None}
    return Roles(projections, known) if len(known) == len(found) else None


def _slices(mask: Tensor) -> Slices | None:
    """A role's columns as one block in each of several equal stretches."""
    width = len(mask)
    edges = torch.diff(mask.int(), prepend=mask.new_zeros(1).int()).eq(1).nonzero().flatten()
    count, total = len(edges), int(mask.sum())
    if width % count or total % count:
        return None
    try:
        found = Slices(width, count, width // count, int(edges[0]), total // count)
    except InputError:
        return None
    expected = found.place(torch.ones(found.features)) > 0
    return found if torch.equal(expected, mask.cpu()) else None
