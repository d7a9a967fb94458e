"""Who may answer a row: the experts that the caller named, or those that the router chooses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from expertbank.artifacts.bundle import BundledExpert
from expertbank.errors import InputError
from expertbank.kinds import KINDS
from expertbank.records import ExpertRecord, Row, RowShape
from expertbank.routing.columns import Member
from expertbank.routing.router import Router


@dataclass(frozen=True, slots=True)
class Answerer:
    """An expert that may answer: what its outputs mean.

    Attributes:
        id: ``task@version``.
        digest: of its file; what it is loaded and remembered by.
        task: the task's name.
        kind: name of the task's kind.
        labels: names in head order; empty where labels have none.
    """

    id: str
    digest: str
    task: str
    kind: str
    labels: tuple[str, ...]

    @classmethod
    def of(cls, expert: ExpertRecord | BundledExpert) -> Answerer:
        """An expert of a bank's registry, or of a bundle's manifest."""
        return cls(expert.id, expert.digest, expert.task, expert.kind, expert.labels)


def _read_choices(shapes: Iterable[RowShape]) -> frozenset[bool]:
    """Whether rows with choices are among those of these shapes, and whether others are."""
    return frozenset(shape == "choices" for shape in shapes)


def _any_writes(kinds: Iterable[str]) -> bool:
    """Whether answers of experts of these kinds may have to be written."""
    writing = {name for name, kind in KINDS.usable() if kind.writes}
    return not writing.isdisjoint(kinds)


@dataclass(frozen=True, slots=True)
class Named:
    """The caller named who answers: nothing is left to decide.

    Attributes:
        experts: one, or those of a group, which answer together.
        reads_choices: whether all of them read rows with choices, or rows without.
        writes: whether any of them writes its answers.
    """

    experts: tuple[Answerer, ...]
    reads_choices: frozenset[bool]
    writes: bool = False

    @classmethod
    def of(cls, *experts: Answerer) -> Named:
        """The decision for these experts.

        Raises:
            NotFoundError: the kind of one is not installed.
        """
        reads = [_read_choices(KINDS.get(expert.kind).shapes) for expert in experts]
        writes = _any_writes(expert.kind for expert in experts)
        return cls(experts, frozenset.intersection(*reads), writes)


@dataclass(frozen=True, slots=True)
class Routed:
    """The router decides: one expert, or the experts of a group; what of unknown rows, the caller.

    Attributes:
        router: the router.
        experts: by column of the gate, who answers together.
        reads_choices: whether any of them reads rows with choices, or rows without.
        abstain: answer ``unknown`` to unknown rows.
        fallback: the expert that answers unknown rows of its own kind instead.
        second_opinion: where the two best lie close, ask both experts.
        writes: whether any of these experts writes its answers.
    """

    router: Router
    experts: tuple[tuple[Member, ...], ...]
    reads_choices: frozenset[bool]
    abstain: bool = False
    fallback: Answerer | None = None
    second_opinion: bool = False
    writes: bool = False

    @classmethod
    def over(cls, router: Router) -> Routed:
        """What every row asks of a router, worked out once."""
        return cls(
            router,
            router.columns,
            _read_choices(shape for member in router.members for shape in member.reads),
            writes=_any_writes(member.kind for member in router.members),
        )

    def can_spare(self, shape: RowShape) -> bool:
        """Whether there is a fallback that reads rows of this shape."""
        return self.fallback is not None and shape in KINDS.get(self.fallback.kind).shapes

    def probability_of_fallback(self, probabilities: Tensor) -> float:
        """The fallback's among a row's ``probabilities [columns]``; 0 where it is no candidate."""
        assert self.fallback is not None
        if all(member.task != self.fallback.task for member in self.router.members):
            return 0.0
        return float(probabilities[self.router.column_of(self.fallback.task)])


Decision = Named | Routed


def unanswerable(row: Row, decision: Decision) -> InputError | None:
    """What is wrong with a row that no expert can read."""
    if bool(row.choices) in decision.reads_choices:
        return None
    where = row.origin or "row"
    return InputError(
        f"{where}: it brings choices, and no multiple-choice expert may answer"
        if row.choices
        else f"{where}: it brings no choices, and only multiple-choice experts may answer"
    )
