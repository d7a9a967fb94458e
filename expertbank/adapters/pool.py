"""Serving many experts in one batch: gathered, batched products, no loop over experts.

A resident expert is one flat vector that holds all its factors. A batch that mixes experts
copies the vectors of its rows side by side, once, and every projection reads its part as a
view. Nothing is kept per combination of experts, so combinations may vary freely, and what a
pass has gathered is its own: no eviction by another thread can touch it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.adapters.hooks import Update
from expertbank.adapters.slots import Factors
from expertbank.records import Activation, HeadPooling
from expertbank.writing import Writing

DEFAULT_POOL_BYTES = 256 * 1024 * 1024
"""What a pool may keep: some 1,900 experts of a MiniLM's branch, or 120 of LLaMA-3.2-1B at full
depth."""

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
    def ids(self) -> tuple[str, ...]:
        """The experts in order."""
        return tuple(resident.expert.id for resident in self.residents)

    @property
    def layout(self) -> Layout:
        """The layout all share."""
        return self.residents[0].layout

    @property
    def scores_sequences(self) -> tuple[bool, ...]:
        """Whether each expert's head scores a row's sequences one by one."""
        return tuple(resident.expert.scores_sequences for resident in self.residents)

    @property
    def thresholds(self) -> tuple[Tensor | None, ...]:
        """Each expert's thresholds."""
        return tuple(resident.expert.thresholds for resident in self.residents)

    @property
    def writing(self) -> tuple[Writing | None, ...]:
        """How each expert's answers are written, ``None`` for one with a head."""
        return tuple(resident.expert.writing for resident in self.residents)

    @property
    def answers(self) -> bool:
        """Whether any of them has a head, or writes; the others are answered elsewhere."""
        return any(len(one.head_bias) or one.writing is not None for one in self.experts)

    @property
    def experts(self) -> tuple[CollapsedExpert, ...]:
        """The experts themselves."""
        return tuple(resident.expert for resident in self.residents)

    def updates_for(self, index: Sequence[int]) -> dict[str, Update]:
        """For each projection path the update of sequences whose experts are ``index``."""
        if len(self.residents) == 1:
            own = factors_in(self.residents[0].data, self.layout)
            return {path: _shared_update(a, b) for path, (a, b) in own.items()}
        # [batch, numbers]
        gathered = torch.stack([self.residents[place].data for place in index])
        factors = factors_in(gathered, self.layout)
        return {path: _row_update(a, b) for path, (a, b) in factors.items()}

    def logits(self, pooled: Tensor, index: Sequence[int]) -> Tensor:
        """Head outputs ``[batch, classes]`` for ``pooled [batch, width]``, padded with -inf.

        Heads may be narrower than ``width``, what they do not read is zero.
        """
        experts = self.experts
        if not any(len(expert.head_bias) for expert in experts):
            return pooled.new_empty(len(pooled), 0)
        if len(experts) == 1:
            return pooled @ experts[0].head_weight.T + experts[0].head_bias
        # All classes of all heads side by side; each row then takes those of its own expert.
        heads = [e.head_weight for e in experts if len(e.head_bias)]
        weight = torch.cat([F.pad(one, (0, pooled.shape[1] - one.shape[1])) for one in heads])
        bias = torch.cat([expert.head_bias for expert in experts])
        outputs = pooled @ weight.T + bias
        counts = [len(expert.head_bias) for expert in experts]
        starts = [sum(counts[:place]) for place in range(len(counts))]
        width = max(counts)
        places = torch.tensor(
            [[starts[i] + c if c < counts[i] else 0 for c in range(width)] for i in index],
            device=pooled.device,
        )
        beyond = torch.tensor(
            [[c >= counts[i] for c in range(width)] for i in index], device=pooled.device
        )
        return outputs.gather(1, places).masked_fill(beyond, float("-inf"))


def _shared_update(a: Tensor, b: Tensor) -> Update:
    return lambda x: (x @ a) @ b


def _row_update(a: Tensor, b: Tensor) -> Update:
    # [batch, tokens, in] · [batch, in, r] · [batch, r, out]
    return lambda x: torch.bmm(torch.bmm(x, a), b)


class ExpertPool:
    """Loads experts when a batch first needs them and keeps the most recently used.

    What is kept is never looked at again, so an id must name the same bytes for ever: a digest,
    and not a name such as ``task@version``, which a restored bank may give to other weights.

    Besides what it keeps, a pass holds the experts of its batch, and one copy of their factors
    for every sequence of a batch that mixes experts; both go when the pass ends.

    Args:
        load: id to a collapsed expert; called without a lock held, so that a slow disk
            does not stop other threads. Two threads may both load what neither found.
        max_bytes: how much memory the kept experts may take; ``None`` for no bound. The expert
            used last always stays.
    """

    def __init__(
        self, load: Callable[[str], CollapsedExpert], max_bytes: int | None = DEFAULT_POOL_BYTES
    ) -> None:
        self._load = load
        self._check: Callable[[CollapsedExpert], None] | None = None
        self._max_bytes = max_bytes
        # An expert in its own layout (None), and in wider ones that it shared a batch in.
        self._kept: OrderedDict[tuple[str, Layout | None], Resident] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def require(self, check: Callable[[CollapsedExpert], None]) -> None:
        """Let ``check`` refuse experts, by raising, when they are loaded."""
        self._check = check

    @classmethod
    def holding(cls, experts: Mapping[str, CollapsedExpert]) -> ExpertPool:
        """A pool over experts that are already in memory."""
        return cls(experts.__getitem__, None)

    @property
    def nbytes(self) -> int:
        """Memory of the kept experts."""
        return self._bytes

    def keep_only(self, ids: Collection[str]) -> None:
        """Let go of every expert but these; one that is needed again is loaded again."""
        with self._lock:
            for key in [key for key in self._kept if key[0] not in ids]:
                self._bytes -= self._kept.pop(key).nbytes

    @property
    def full(self) -> bool:
        """Whether one more expert like those it keeps would push another out."""
        with self._lock:
            if self._max_bytes is None or not self._kept:
                return False
            return self._bytes + self._bytes // len(self._kept) > self._max_bytes

    def expert(self, expert_id: str) -> CollapsedExpert:
        """One expert, loaded on first use."""
        return self._resident(expert_id).expert

    def stack(self, ids: Sequence[str]) -> Stack:
        """The experts ``ids`` in one layout, by task; those of one task as they are given.

        It is the least layout that holds these experts, whatever the pool has seen before, so
        that the same batch gives the same bits.
        """
        residents = [self._resident(expert_id) for expert_id in ids]
        # Ids say nothing of an order, and the order shows in the last bits of a sum.
        residents.sort(key=lambda resident: f"{resident.expert.task}@")
        layouts = {resident.layout for resident in residents}
        if len(layouts) > 1:
            wide = layout_of(resident.expert.factors for resident in residents)
            residents = [
                resident if resident.layout == wide else self._widened(resident, wide)
                for resident in residents
            ]
        return Stack(tuple(residents))

    def _resident(self, expert_id: str) -> Resident:
        key = (expert_id, None)
        found = self._find(key)
        if found is not None:
            return found
        loaded = self._load(expert_id)
        if self._check is not None:
            self._check(loaded)
        return self._keep(key, Resident.of(loaded))

    def _widened(self, resident: Resident, layout: Layout) -> Resident:
        key = (resident.expert.id, layout)
        return self._find(key) or self._keep(key, Resident.of(resident.expert, layout))

    def _find(self, key: tuple[str, Layout | None]) -> Resident | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _keep(self, key: tuple[str, Layout | None], resident: Resident) -> Resident:
        with self._lock:
            if key in self._kept:  # another thread was faster
                return self._kept[key]
            self._kept[key] = resident
            self._bytes += resident.nbytes
            while (
                self._max_bytes is not None
                and self._bytes > self._max_bytes
                and len(self._kept) > 1
            ):
                _, gone = self._kept.popitem(last=False)
                self._bytes -= gone.nbytes
            return resident
