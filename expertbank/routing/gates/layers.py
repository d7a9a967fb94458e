"""Gates of affine layers with ReLUs between them: all four that expertbank brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.routing.examples import Block
from expertbank.routing.moments import BalancedMoments


@dataclass(frozen=True, slots=True)
class Layer:
    """One affine map.

    Attributes:
        weight: ``[inputs, outputs]`` float32.
        bias: ``[outputs]`` float32.
    """

    weight: Tensor
    bias: Tensor

    def only(self, outputs: Sequence[int]) -> Layer:
        """The layer with only these outputs."""
        return Layer(self.weight[:, outputs].contiguous(), self.bias[outputs].contiguous())


@dataclass(frozen=True)
class LayeredGate:
    """Affine layers, at least one; the last has an output for every column."""

    layers: tuple[Layer, ...]

    @property
    def dimension(self) -> int:
        """Width of the features it reads."""
        return self.layers[0].weight.shape[0]

    @property
    def columns(self) -> int:
        """How many columns it scores."""
        return self.layers[-1].weight.shape[1]

    @property
    def parameter_count(self) -> int:
        """Numbers that decide."""
        return sum(layer.weight.numel() + layer.bias.numel() for layer in self.layers)

    @cached_property
    def _exact(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The layers in float64, converted once: threads that race here get equal numbers."""
        return tuple((layer.weight.double(), layer.bias.double()) for layer in self.layers)

    def scores(self, features: Tensor) -> Tensor:
        """``[rows, columns]`` in float64 of ``features [rows, dimension]``."""
        values = features.double()
        for number, (weight, bias) in enumerate(self._exact):
            values = values if number == 0 else torch.relu(values)
            values = values @ weight + bias
        return values

    def only(self, columns: Sequence[int]) -> LayeredGate:
        """The gate with only these outputs of its last layer."""
        return LayeredGate((*self.layers[:-1], self.layers[-1].only(columns)))

    def tensors(self) -> dict[str, Tensor]:
        """Weight and bias of every layer, by its number."""
        found = {}
        for number, layer in enumerate(self.layers):
            found[f"layers.{number}.weight"] = layer.weight
            found[f"layers.{number}.bias"] = layer.bias
        return found

    def facts(self) -> dict[str, Any]:
        """How many layers there are."""
        return {"layers": len(self.layers)}


def read_layers(
    tensors: MutableMapping[str, Tensor], facts: Mapping[str, Any], where: str
) -> LayeredGate:
    """The gate of stored layers.

    Raises:
        IntegrityError: layers that do not fit each other, or that are not float32.
        KeyError: a tensor or fact is missing.
    """
    layers = tuple(
        Layer(tensors.pop(f"layers.{number}.weight"), tensors.pop(f"layers.{number}.bias"))
        for number in range(min(int(facts["layers"]), len(tensors)))
    )
    fits = bool(layers) and all(layer.weight.dim() == 2 for layer in layers)
    fits = fits and all(layer.bias.shape == layer.weight.shape[1:] for layer in layers)
    fits = fits and all(
        below.weight.shape[1] == above.weight.shape[0] for below, above in pairwise(layers)
    )
    if not fits:
        raise IntegrityError(f"{where}: the gate's layers do not fit each other")
    if any(t.dtype != torch.float32 for layer in layers for t in (layer.weight, layer.bias)):
        raise IntegrityError(f"{where}: the gate's layers are not float32")
    return LayeredGate(layers)


def joined(
    blocks: Sequence[Block], solve: Callable[[BalancedMoments], tuple[Tensor, Tensor]]
) -> LayeredGate:
    """One layer of blocks that are solved apart.

    Args:
        blocks: columns and moments, every column in one of them.
        solve: ``weight [dimension, columns]`` and ``bias [columns]`` of one block's moments.
    """
    solved = [solve(block.moments) for block in blocks]
    width = sum(len(block.columns) for block in blocks)
    weight = solved[0][0].new_zeros(len(solved[0][0]), width)
    bias = weight.new_zeros(width)
    for block, (own, offset) in zip(blocks, solved, strict=True):
        weight[:, block.columns] = own
        bias[block.columns] = offset
    return LayeredGate((Layer(weight.float(), bias.float()),))
