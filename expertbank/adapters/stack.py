"""The experts of one batch, applied together: gathered, batched products, no loop over experts.

A resident expert is one flat vector that holds all its factors. A batch that mixes experts
copies the vectors of its rows side by side, once, and every projection reads its part as a
view. Nothing is kept per combination of experts, so combinations may vary freely, and what a
pass has gathered is its own: no eviction by another thread can touch it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.adapters.hooks import Update
from expertbank.adapters.slots import Factors
from expertbank.records import Activation, HeadPooling
from expertbank.writing import Writing

Layout = tuple[tuple[str, int, int, int], ...]
"""Path, inputs, rank and outputs of every adapted projection, by path."""


@dataclass(frozen=True, slots=True)
class Dense:
    """A layer between what is pooled and the head, as heads that were trained elsewhere have.

    Attributes:
        weight: ``[hidden, hidden]``.
        bias: ``[hidden]``.
        activation: what follows it.
    """

    weight: Tensor
    bias: Tensor
    activation: Activation

    def __call__(self, pooled: Tensor) -> Tensor:
        """``pooled [sequences, hidden]`` through the layer."""
        outputs = pooled @ self.weight.T + self.bias
        if self.activation == "tanh":
            return outputs.tanh()
        if self.activation == "relu":
            return outputs.relu()
        return F.gelu(outputs)


@dataclass(frozen=True, slots=True)
class CollapsedExpert:
    """An expert ready to serve.

    Attributes:
        id: what a pool is asked for: the digest of the expert's file, in a bank or a bundle.
        factors: projection path to ``A [in, r]`` and ``alpha·B [r, out]``.
        head_weight: ``[classes, hidden]``; ``[0, 0]`` where there is no head.
        head_bias: ``[classes]``.
        scores_sequences: whether the head scores each of a row's sequences by itself.
        pooling: what the head reads of the last hidden states.
        thresholds: ``[classes]`` on the CPU: logits from which on a class holds by itself; ``None``
            where classes are compared with each other.
        task: the task that its file names.
        labels: class names in head order, as its file has them.
        writing: how the language model writes its answers, where there is no head.
        scaled: whether what is pooled is scaled to root mean square 1.
        dense: what it then passes before the head reads it.
    """

    id: str
    factors: Factors
    head_weight: Tensor
    head_bias: Tensor
    scores_sequences: bool = False
    pooling: HeadPooling = "mean"
    thresholds: Tensor | None = None
    task: str = ""
    labels: tuple[str, ...] = ()
    writing: Writing | None = None
    scaled: bool = True
    dense: Dense | None = None


@dataclass(frozen=True, slots=True)
class Resident:
    """An expert whose factors lie in one vector; ``expert.factors`` are views of it.

    Attributes:
        expert: the expert.
        layout: what lies where.
        data: ``[numbers]`` for each projection of the layout ``A`` and then ``B``, row by row.
    """

    expert: CollapsedExpert
    layout: Layout
    data: Tensor

    @classmethod
    def of(cls, expert: CollapsedExpert, layout: Layout | None = None) -> Resident:
        """Copy an expert's factors into ``layout``; default its own.

        Where the layout has a larger rank, or a projection that the expert does not adapt, the
        rest is zero and adds nothing.
        """
        layout = layout_of([expert.factors]) if layout is None else layout
        some = next((a for a, _ in expert.factors.values()), expert.head_weight)
        data = some.new_zeros(_numbers(layout))
        factors = factors_in(data, layout)
        for path, (a, b) in expert.factors.items():
            factors[path][0][:, : a.shape[1]] = a
            factors[path][1][: b.shape[0]] = b
        kept = {path: factors[path] for path in expert.factors}
        head = (expert.head_weight.clone(), expert.head_bias.clone())
        own = replace(expert, factors=kept, head_weight=head[0], head_bias=head[1])
        return cls(own, layout, data)

    @property
    def nbytes(self) -> int:
        """Memory it holds."""
        dense = self.expert.dense
        tensors = [self.data, self.expert.head_weight, self.expert.head_bias]
        tensors += [dense.weight, dense.bias] if dense else []
        return sum(tensor.nbytes for tensor in tensors)


def layout_of(adapters: Iterable[Factors]) -> Layout:
    """The least layout that holds every one of ``adapters``."""
    widest: dict[str, tuple[int, int, int]] = {}
    for factors in adapters:
        for path, (a, b) in factors.items():
            rank = max(a.shape[1], widest.get(path, (0, 0, 0))[1])
            widest[path] = (a.shape[0], rank, b.shape[1])
    return tuple((path, *widest[path]) for path in sorted(widest))


def factors_in(data: Tensor, layout: Layout) -> dict[str, tuple[Tensor, Tensor]]:
    """Views ``A [..., in, r]`` and ``B [..., r, out]`` of ``data [..., numbers]`` by path."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    start = 0
    for path, inputs, rank, outputs in layout:
        a = data.narrow(-1, start, inputs * rank).view(*data.shape[:-1], inputs, rank)
        start += inputs * rank
        b = data.narrow(-1, start, rank * outputs).view(*data.shape[:-1], rank, outputs)
        start += rank * outputs
        found[path] = (a, b)
    return found


def _numbers(layout: Layout) -> int:
    return sum(rank * (inputs + outputs) for _, inputs, rank, outputs in layout)


@dataclass(frozen=True, slots=True)
class Stack:
    """The experts of one batch, all in one layout; never changed after it is made."""

    residents: tuple[Resident, ...]

    @classmethod
    def of(cls, experts: Sequence[CollapsedExpert]) -> Stack:
        """Stack experts in the given order."""
        layout = layout_of(expert.factors for expert in experts)
        return cls(tuple(Resident.of(expert, layout) for expert in experts))

    @property
    def experts(self) -> tuple[CollapsedExpert, ...]:
        """The experts in order."""
        return tuple(resident.expert for resident in self.residents)

    @property
    def ids(self) -> tuple[str, ...]:
        """What they are asked for by."""
        return tuple(expert.id for expert in self.experts)

    @property
    def answers(self) -> bool:
        """Whether any of them has a head, or writes; the others are answered elsewhere."""
        return any(len(one.head_bias) or one.writing is not None for one in self.experts)

    def updates_for(self, index: Sequence[int]) -> dict[str, Update]:
        """For each projection path the update of sequences whose experts are ``index``."""
        first = self.residents[0]
        if len(self.residents) == 1:
            own = factors_in(first.data, first.layout)
            return {path: _shared_update(a, b) for path, (a, b) in own.items()}
        # [sequences, numbers]
        gathered = torch.stack([self.residents[place].data for place in index])
        factors = factors_in(gathered, first.layout)
        return {path: _row_update(a, b) for path, (a, b) in factors.items()}

    def logits(self, pooled: Tensor, index: Sequence[int]) -> Tensor:
        """Head outputs ``[sequences, classes]`` for ``pooled [sequences, width]``.

        Heads may be narrower than ``width``, what they do not read is zero; beyond the classes of
        a sequence's own head stands ``-inf``.
        """
        experts, device = self.experts, pooled.device
        heads = [expert for expert in experts if len(expert.head_bias)]
        if not heads:
            return pooled.new_empty(len(pooled), 0)
        if len(experts) == 1:
            return pooled @ experts[0].head_weight.T + experts[0].head_bias
        # All classes of all heads side by side; each sequence then takes those of its own expert.
        width = pooled.shape[1]
        weight = torch.cat(
            [F.pad(e.head_weight, (0, width - e.head_weight.shape[1])) for e in heads]
        )
        outputs = pooled @ weight.T + torch.cat([expert.head_bias for expert in heads])
        sizes = [len(expert.head_bias) for expert in experts]
        counts, own = torch.tensor(sizes, device=device), torch.tensor(index, device=device)
        first = counts.cumsum(0) - counts
        classes = torch.arange(max(sizes), device=device)
        # [sequences, classes]
        beyond = classes >= counts[own].unsqueeze(1)
        places = first[own].unsqueeze(1) + classes
        return outputs.gather(1, places.masked_fill(beyond, 0)).masked_fill(beyond, float("-inf"))


def _shared_update(a: Tensor, b: Tensor) -> Update:
    return lambda x: (x @ a) @ b


def _row_update(a: Tensor, b: Tensor) -> Update:
    # [batch, tokens, in] · [batch, in, r] · [batch, r, out]
    return lambda x: torch.bmm(torch.bmm(x, a), b)
