"""The router: a gate over frozen features and the list of experts it chooses among."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from expertbank.backbones.forks import computing
from expertbank.errors import MALFORMED, InputError, IntegrityError
from expertbank.files.tensors import read_safetensors, write_safetensors
from expertbank.records import ROW_SHAPES, RowShape
from expertbank.routing.columns import Member, masks
from expertbank.routing.distance import DistanceModel
from expertbank.routing.gates import Gate
from expertbank.routing.gates.absent import AbsentGate, read_gate
from expertbank.routing.grid import Grid
from expertbank.routing.sureness import unasked
from expertbank.routing.unknown import Answered, Asked, Judged, Unknown, UnknownModel

PLAIN, NAMED_GROUPS, FORMAT = 1, 2, 3
"""Routers of the first two read features as they are, and the second names groups; of the third
read features on the grid, with or without groups."""
OWN = frozenset(
    {"format", "kind", "members", "feature_spec_digest", "temperature", "unknown", "grid"}
)
"""What a router's file says beside the facts of its gate."""


CLOSE = 0.05
"""The second best column lies close from this probability on."""
NEAR = 5
"""Columns that are told of besides the chosen one, which is the first of them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a router decided for some rows.

    Attributes:
        index: ``[rows]`` the chosen column.
        confidence: ``[rows]`` its probability among the candidates.
        strangeness: ``[rows]`` float64, how unlike every task that may answer it the router finds
            a row; ``None`` where it holds no statistics.
        near: ``[rows, at most NEAR]`` the likeliest columns, the chosen one first.
        near_probability: ``[rows, at most NEAR]`` their probabilities, falling; 0 for columns
            that may not answer.
    """

    index: Tensor
    confidence: Tensor
    near: Tensor
    near_probability: Tensor
    strangeness: Tensor | None = None


@dataclass(frozen=True)
class Router:
    """A fitted gate and its members; immutable, and safe for threads.

    Attributes:
        kind: which kind of gate it is.
        members: the experts, each with its column.
        feature_spec_digest: the features it reads.
        temperature: divides the scores before the softmax; fitted on held-out rows.
        gate: what scores the columns.
        unknown: statistics behind the unknown score, ``None`` if too few rows were there.
        grid: what the gate reads of features; ``None`` for them as they are, which it does of
            routers that were fitted before there was one.
    """

    kind: str
    members: tuple[Member, ...]
    feature_spec_digest: str
    temperature: float
    gate: Gate
    unknown: Unknown | None = None
    grid: Grid | None = None

    @property
    def dimension(self) -> int:
        """Width of the features it reads."""
        return self.gate.dimension if self.grid is None else self.grid.dimension

    @property
    def parameter_count(self) -> int:
        """Numbers that decide."""
        return self.gate.parameter_count

    @cached_property
    def columns(self) -> tuple[tuple[Member, ...], ...]:
        """Members by column: the experts that answer together."""
        found: dict[int, list[Member]] = {}
        for member in sorted(self.members, key=lambda member: member.task):
            found.setdefault(member.column, []).append(member)
        return tuple(tuple(found[column]) for column in sorted(found))

    @cached_property
    def _column_of(self) -> Mapping[str, int]:
        return {member.task: member.column for member in self.members}

    @cached_property
    def _masks(self) -> Mapping[RowShape, Tensor]:
        return masks([{shape for m in column for shape in m.reads} for column in self.columns])

    def column_of(self, task: str) -> int:
        """The column that stands for ``task``."""
        return self._column_of[task]

    def candidates(self, shapes: Sequence[RowShape]) -> Tensor:
        """``[rows, columns]`` bool: the columns that may answer rows of these shapes."""
        return torch.stack([self._masks[shape] for shape in shapes])

    def scores(self, features: Tensor) -> Tensor:
        """Gate scores ``[rows, columns]`` in float64 for ``features [rows, dimension]``.

        Double precision makes the choice independent of how rows were batched, up to the
        float16 rounding of the features themselves.

        Raises:
            IntegrityError: features of another width than the gate's, or scores that are not
                finite.
            NotFoundError: the kind of gate is not installed here.
        """
        return self._scores(self._read(features))

    @computing()
    def _scores(self, values: Tensor) -> Tensor:
        scores = self.gate.scores(values)
        if not bool(torch.isfinite(scores).all()):
            raise IntegrityError(
                f"the {self.kind} gate gives scores that are not finite; fit another with: "
                "expertbank retrain-router"
            )
        return scores

    @computing()
    def _read(self, features: Tensor) -> Tensor:
        """What gate and unknown score read of features, on the CPU."""
        if features.shape[1] != self.dimension:
            raise IntegrityError(
                f"the router reads features of width {self.dimension}, got {features.shape[1]}"
            )
        return features.cpu() if self.grid is None else self.grid.values(features)

    def route(
        self,
        features: Tensor,
        shapes: Sequence[RowShape] | None = None,
    ) -> Choice:
        """Choose a column for every row.

        Args:
            features: ``[rows, dimension]``, on any device; what is made of them is on the CPU.
            shapes: per row what it brings: only experts that were trained on such rows are
                candidates, see ``candidates``. ``None`` lifts the restriction.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        values = self._read(features)
        scores = self._scores(values)
        if shapes is not None:
            scores = scores.masked_fill(~self.candidates(shapes), float("-inf"))
        probabilities = torch.softmax(scores / self.temperature, dim=1)
        index = scores.argmax(1)
        confidence = probabilities.gather(1, index.unsqueeze(1)).squeeze(1)
        # Of scores, which tell apart what probabilities round to 0; the first of equals is first.
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, :NEAR]
        near = order, probabilities.gather(1, order)
        strange = None
        if self.unknown is not None:
            asked = Asked(values, scores, confidence, index)
            strange = self.unknown.strangeness(asked)
        return Choice(index, confidence, *near, strange)

    def judge(
        self,
        strangeness: Tensor | None,
        columns: Tensor,
        tokens: Sequence[int] | None = None,
        sureness: Tensor | None = None,
    ) -> Judged | None:
        """Whether rows are like no task; ``None`` where the router holds no statistics.

        Args:
            strangeness: ``[rows]`` of a ``Choice``.
            columns: ``[rows]`` chosen.
            tokens: per row those of its longest sequence: what is rare among known rows depends
                on it. ``None`` to compare with whole rows of any length.
            sureness: ``[rows]`` int16 of the expert that answered; ``None`` where none was asked.
        """
        if self.unknown is None or strangeness is None:
            return None
        rows = len(columns)
        lengths = torch.zeros(rows) if tokens is None else torch.tensor(list(tokens))
        heard = unasked(rows) if sureness is None else sureness
        return self.unknown.judge(Answered(strangeness, columns, lengths.int(), heard))

    def second(self, choice: Choice) -> Tensor:
        """``[rows]`` int64 the column to be asked too; -1 where the first is far ahead.

        Only where both have an expert that tells its own rows by how sure it is.
        """
        none = torch.full_like(choice.index, -1)
        if choice.near.shape[1] < 2 or not isinstance(self.unknown, UnknownModel):
            return none
        close = choice.near_probability[:, 1] >= CLOSE
        tells = self.unknown.telling[choice.near[:, :2]].all(1)
        return choice.near[:, 1].where(close & tells, none)

    def probabilities(self, features: Tensor, shapes: Sequence[RowShape]) -> Tensor:
        """Every column's probability among a row's candidates; 0 for those that are none.

        Args:
            features: ``[rows, dimension]``.
            shapes: as in ``route``.

        Returns:
            ``[rows, columns]`` float64.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        scores = self.scores(features)
        scores = scores.masked_fill(~self.candidates(shapes), float("-inf"))
        return torch.softmax(scores / self.temperature, dim=1)

    def lead(self, features: Tensor, shapes: Sequence[RowShape] | None = None) -> Tensor:
        """How far the chosen column's score is above the next candidate's.

        Args:
            features: ``[rows, dimension]``.
            shapes: as in ``route``.

        Returns:
            ``[rows]`` float64, infinite where a row has one candidate only.

        Raises:
            IntegrityError: features of another width than the gate's.
        """
        scores = self.scores(features)
        if shapes is not None:
            scores = scores.masked_fill(~self.candidates(shapes), float("-inf"))
        if scores.shape[1] == 1:
            return torch.full((len(scores),), float("inf"), dtype=scores.dtype)
        top = scores.topk(2, dim=1).values
        return top[:, 0] - top[:, 1]

    def subset(self, tasks: Sequence[str]) -> Router:
        """The same router with only the columns of ``tasks``, in their old order.

        What the unknown score knows of the other columns goes too: their rows become unknown.

        Raises:
            NotFoundError: the kind of gate is not installed here.
        """
        wanted = set(tasks)
        kept = [member for member in self.members if member.task in wanted]
        columns = sorted({member.column for member in kept})
        place = {column: place for place, column in enumerate(columns)}
        return replace(
            self,
            members=tuple(replace(m, column=place[m.column]) for m in kept),
            gate=self.gate.only(columns),
            unknown=None if self.unknown is None else self.unknown.only(columns),
        )

    def to_bytes(self) -> bytes:
        """One safetensors file; equal routers give equal bytes.

        Raises:
            InputError: the gate stores something under a name that the router itself uses, or
                numbers that are not finite, which no reader would take.
        """
        reads = {} if self.grid is None else {"grid": self.grid.facts()}
        grouped = any(member.group for member in self.members)
        metadata = {
            "format": FORMAT if reads else NAMED_GROUPS if grouped else PLAIN,
            **reads,
            "kind": self.kind,
            "members": [
                [m.id, m.digest, m.task, m.kind, m.column, list(m.reads)]
                + ([m.group] if m.group else [])
                for m in self.members
            ],
            "feature_spec_digest": self.feature_spec_digest,
            "temperature": self.temperature,
            "unknown": None if self.unknown is None else self.unknown.facts(),
        }
        tensors = {} if self.unknown is None else self.unknown.tensors()
        facts, stored = self.gate.facts(), self.gate.tensors()
        taken = sorted(
            {name for name in stored if name.startswith("unknown.")} | (OWN & set(facts))
        )
        if taken:
            raise InputError(f"the {self.kind} gate cannot store {taken[0]!r}: the router does")
        numbers = {"temperature": torch.tensor(self.temperature), **tensors, **stored}
        if odd := not_finite(numbers):
            raise InputError(f"a {self.kind} router is not stored whose {odd} is not finite")
        return write_safetensors({**tensors, **stored}, {**metadata, **facts})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Router:
        """Read and check a router file.

        A router whose kind of gate is not installed here is read too; it says so when it is to
        score.

        Raises:
            IntegrityError: not a router file, or shapes that do not fit its members.
        """
        tensors, metadata = read_safetensors(data, where)
        try:
            if metadata["format"] not in {PLAIN, NAMED_GROUPS, FORMAT}:
                raise IntegrityError(f"{where}: router format {metadata['format']} is not known")
            odd = not_finite(tensors)
            if odd is not None:
                raise IntegrityError(f"{where}: tensor {odd} is not finite")
            kind = str(metadata["kind"])
            members = tuple(_member(*fields) for fields in metadata["members"])
            unknown = _unknown(tensors, metadata["unknown"], where)
            facts = {name: fact for name, fact in metadata.items() if name not in OWN}
            gate = read_gate(kind, tensors, facts, where)
            spec, temperature = metadata["feature_spec_digest"], float(metadata["temperature"])
            grid = Grid.read(metadata["grid"]) if metadata["format"] == FORMAT else None
            router = cls(kind, members, str(spec), temperature, gate, unknown, grid)
            router._check(where)
        except (RuntimeError, *MALFORMED) as error:
            raise IntegrityError(f"{where}: router metadata is malformed ({error!r})") from error
        if tensors:
            raise IntegrityError(f"{where}: unexpected tensors {sorted(tensors)[:5]}")
        return router

    def _check(self, where: str) -> None:
        columns = {member.column for member in self.members}
        width = len(columns)
        fits = columns == set(range(width)) and width > 0 and 0 < self.temperature < float("inf")
        known = not isinstance(self.gate, AbsentGate)
        reads = self.gate.dimension if known else 0
        sound = reads == self.grid.width if self.grid else reads >= 1
        if not fits or (known and (self.gate.columns != width or not sound)):
            raise IntegrityError(f"{where}: gate shapes do not fit {len(self.members)} members")
        if self.unknown is not None:
            self.unknown.check(reads if known else self.unknown.width, width, where)


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds something which is no finite number."""
    odd = (name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all()))
    return next(odd, None)


def _unknown(tensors: MutableMapping[str, Tensor], facts: Any, where: str) -> Unknown | None:
    """What the router tells unknown rows by, as its file says; ``None`` where it says nothing."""
    if facts is None:
        return None
    model = UnknownModel if "known" in facts else DistanceModel
    return model.read(tensors, facts, where)


def _member(
    name: str,
    digest: str,
    task: str,
    kind: str,
    column: int,
    reads: Sequence[RowShape],
    group: str | None = None,
) -> Member:
    """A member as its file says.

    Raises:
        ValueError: a name or kind that is no text, a shape that there is not, or a column that
            is no number.
    """
    texts = (name, digest, task, kind, *([] if group is None else [group]))
    named = all(isinstance(text, str) and text for text in texts)
    if not named or not set(reads) <= set(ROW_SHAPES) or type(column) is not int:
        raise ValueError(f"{name}: kind {kind!r}, reads {reads!r}, column {column!r}")
    return Member(name, digest, task, kind, column, tuple(reads), group)
