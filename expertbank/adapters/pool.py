"""Experts in memory: loaded when a batch first needs them, the most recently used kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock

from expertbank.adapters.stack import CollapsedExpert, Layout, Resident, Stack, layout_of

DEFAULT_POOL_BYTES = 256 * 1024 * 1024
"""What a pool may keep: some 1,900 experts of a MiniLM's branch, or 120 of LLaMA-3.2-1B at full
depth."""


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
