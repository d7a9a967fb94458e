"""Serving many experts in one batch: gathered, batched products, no loop over experts.

Collapsed experts live in a bounded LRU; what a batch needs is stacked once into an immutable
``Stack``, so an eviction by another thread cannot touch a pass that is under way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from expertbank.adapters.hooks import Update
from expertbank.adapters.tt import Factors
from expertbank.records import HeadPooling


@dataclass(frozen=True, slots=True)
class CollapsedExpert:
    """An expert ready to serve.

    Attributes:
        id: ``task@version``.
        factors: projection path to ``A [in, r]`` and ``alpha·B [r, out]``.
        head_weight: ``[classes, hidden]``.
        head_bias: ``[classes]``.
        per_choice: whether the head scores each choice of a row by itself.
        pooling: what the head reads of the last hidden states.
    """

    id: str
    factors: Factors
    head_weight: Tensor
    head_bias: Tensor
    per_choice: bool = False
    pooling: HeadPooling = "mean"


@dataclass(frozen=True, slots=True)
class Stack:
    """The experts of one batch, side by side; never changed after it is made.

    Ranks are padded with zeros and class counts with ``-inf`` logits, so experts of different
    shapes share one batched product.
    """

    ids: tuple[str, ...]
    factors: Factors
    head_weight: Tensor
    head_bias: Tensor
    per_choice: Tensor
    poolings: tuple[HeadPooling, ...]

    @classmethod
    def of(cls, experts: Sequence[CollapsedExpert]) -> Stack:
        """Stack experts in the given order."""
        paths = dict.fromkeys(path for expert in experts for path in expert.factors)
        classes = max(expert.head_bias.shape[0] for expert in experts)
        hidden = experts[0].head_weight.shape[1]
        weight = experts[0].head_weight.new_zeros(len(experts), classes, hidden)
        bias = experts[0].head_bias.new_full((len(experts), classes), float("-inf"))
        for index, expert in enumerate(experts):
            weight[index, : expert.head_bias.shape[0]] = expert.head_weight
            bias[index, : expert.head_bias.shape[0]] = expert.head_bias
        return cls(
            tuple(expert.id for expert in experts),
            {path: _stack_factors(path, experts) for path in paths},
            weight,
            bias,
            torch.tensor([expert.per_choice for expert in experts], device=bias.device),
            tuple(expert.pooling for expert in experts),
        )

    def updates_for(self, index: Tensor) -> dict[str, Update]:
        """For each projection path the update of sequences whose experts are ``index [batch]``."""
        if len(self.ids) == 1:
            return {path: _shared_update(a[0], b[0]) for path, (a, b) in self.factors.items()}
        return {path: _gathered_update(a, b, index) for path, (a, b) in self.factors.items()}

    def logits(self, pooled: Tensor, index: Tensor) -> Tensor:
        """Head outputs ``[batch, classes]`` for ``pooled [batch, hidden]``, padded with -inf."""
        if len(self.ids) == 1:
            return pooled @ self.head_weight[0].T + self.head_bias[0]
        product = torch.bmm(self.head_weight[index], pooled.unsqueeze(-1)).squeeze(-1)
        return product + self.head_bias[index]


def _stack_factors(path: str, experts: Sequence[CollapsedExpert]) -> tuple[Tensor, Tensor]:
    present = [expert.factors[path] for expert in experts if path in expert.factors]
    rank = max(a.shape[1] for a, _ in present)
    a0, b0 = present[0]
    a = a0.new_zeros(len(experts), a0.shape[0], rank)
    b = b0.new_zeros(len(experts), rank, b0.shape[1])
    for index, expert in enumerate(experts):
        if path in expert.factors:
            own_a, own_b = expert.factors[path]
            a[index, :, : own_a.shape[1]] = own_a
            b[index, : own_b.shape[0]] = own_b
    return a, b


def _shared_update(a: Tensor, b: Tensor) -> Update:
    return lambda x: (x @ a) @ b


def _gathered_update(a: Tensor, b: Tensor, index: Tensor) -> Update:
    # [experts, in, r] → [batch, in, r]
    own_a, own_b = a[index], b[index]
    return lambda x: torch.bmm(torch.bmm(x, own_a), own_b)


class ExpertPool:
    """Loads experts when a batch first needs them and keeps the most recently used.

    Args:
        load: expert id to a collapsed expert; called without a lock held.
        capacity: how many collapsed experts stay in memory.
    """

    _STACKS = 16

    def __init__(self, load: Callable[[str], CollapsedExpert], capacity: int = 64) -> None:
        self._load = load
        self._capacity = capacity
        self._experts: OrderedDict[str, CollapsedExpert] = OrderedDict()
        self._stacks: OrderedDict[tuple[str, ...], Stack] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def holding(cls, experts: Mapping[str, CollapsedExpert]) -> ExpertPool:
        """A pool over experts that are already in memory."""
        return cls(experts.__getitem__, capacity=max(1, len(experts)))

    def expert(self, expert_id: str) -> CollapsedExpert:
        """One expert, loaded on first use."""
        with self._lock:
            found = self._experts.get(expert_id)
            if found is not None:
                self._experts.move_to_end(expert_id)
                return found
        loaded = self._load(expert_id)
        with self._lock:
            self._experts[expert_id] = loaded
            while len(self._experts) > self._capacity:
                self._experts.popitem(last=False)
        return loaded

    def stack(self, ids: Sequence[str]) -> Stack:
        """The experts ``ids`` side by side; recent combinations are kept."""
        key = tuple(ids)
        with self._lock:
            found = self._stacks.get(key)
            if found is not None:
                self._stacks.move_to_end(key)
        if found is None:
            found = Stack.of([self.expert(expert_id) for expert_id in key])
            with self._lock:
                self._stacks[key] = found
                while len(self._stacks) > self._STACKS:
                    self._stacks.popitem(last=False)
        return found
