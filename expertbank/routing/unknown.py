"""How unlike every known task a row is, and how rare that is among known rows of its length.

The router's strangeness is the mean of several signs, each seen from its mean over known rows and
in their standard deviations:

* for every block of the feature (a hidden state pooled in one way), the distance to the nearest
  column less the distance to everything, both in the metric of a Gaussian's covariance (relative
  Mahalanobis distance: Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD
  Detection", 2021; one block at a time since no one layer tells best: Darrin et al., "Unsupervised
  Layer-wise Score Aggregation for Textual OOD Detection", 2023);
* the router's doubt, ``log(1 - confidence)``;
* the gate's best score, its sign turned.

When the expert has answered, how unsure it is counts as much as all that: it was taught what its
rows look like, which the trunk was not (Podolskiy et al., "Revisiting Mahalanobis Distance for
Transformer-Based Out-of-Domain Detection", 2021). Known rows are those that the expert was not
trained on. An expert that is hardly surer of its own rows than a guess has no say.

How signs were chosen is in ``examples/benchmarks``: weights that were fitted did worse.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from expertbank.errors import IntegrityError
from expertbank.routing.gaussians import Distance, packed, unpacked, whitener
from expertbank.routing.known import KnownScores
from expertbank.routing.moments import BalancedMoments
from expertbank.routing.sureness import UNASKED, Usual

LEVEL = 0.05
"""A row with a p-value up to this is called unknown."""
TELLING = 2.0
"""An expert whose sureness of its own rows is so many deviations above a guess tells them from
others by it; no other has a say. (Measured once, by no script that is kept, over the rows that sit
out: ten domains of questions, all above 2.2, were routed at 0.984 in place of 0.973 where the two
best were asked; nine tasks on sentences, all below 1.9, at 0.954 in place of 0.956.)"""
BLOCK = 384
"""About how wide a block is where features went through a projection, which mixes their own."""
SUREST = 1e-6
"""The least doubt that counts."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a router knows of some rows when it has chosen.

    Attributes:
        values: ``[rows, width]`` features as the router reads them.
        scores: ``[rows, columns]`` of the gate, minus infinity where a column may not answer.
        confidence: ``[rows]`` probability of the chosen column.
        columns: ``[rows]`` the chosen column.
    """

    values: Tensor
    scores: Tensor
    confidence: Tensor
    columns: Tensor


@dataclass(frozen=True, slots=True)
class Answered:
    """What there is to judge rows by.

    Attributes:
        strangeness: ``[rows]`` float64 of the router.
        columns: ``[rows]`` int64 the chosen column.
        tokens: ``[rows]`` int32 tokens of the longest sequence, 0 where nobody knows.
        sureness: ``[rows]`` int16 of the column's expert, see ``sureness``.
    """

    strangeness: Tensor
    columns: Tensor
    tokens: Tensor
    sureness: Tensor


@dataclass(frozen=True, slots=True)
class Judged:
    """What is made of them.

    Attributes:
        score: ``[rows]`` float64, higher for rows less like any task that may answer them.
        unknown: ``[rows]`` bool.
        p_value: ``[rows]`` float64 share of known rows that look as strange; ``None`` of routers
            that were fitted before there was one.
    """

    score: Tensor
    unknown: Tensor
    p_value: Tensor | None = None


class Unknown(Protocol):
    """What a router tells unknown rows by."""

    @property
    def width(self) -> int:
        """Numbers that it reads of a row."""

    def strangeness(self, asked: Asked) -> Tensor:
        """``[rows]`` float64 of the router, before any expert has answered."""

    def judge(self, answered: Answered) -> Judged:
        """Judge rows."""

    def only(self, columns: Sequence[int]) -> Unknown:
        """Without what it knows of other columns."""

    def facts(self) -> dict[str, Any]:
        """What is not a tensor, as plain JSON."""

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by names that begin with ``unknown.``."""

    def check(self, width: int, columns: int, where: str) -> None:
        """Raises IntegrityError: shapes that do not fit a gate of this width and columns."""


def blocks_of(width: int, blocks: int | None) -> tuple[int, ...]:
    """Widths of the blocks of a row.

    Args:
        width: numbers a row.
        blocks: how many the feature has; ``None`` where a projection mixed them.
    """
    parts = blocks if blocks is not None and width % blocks == 0 else -(-width // BLOCK)
    return tuple(len(part) for part in torch.arange(width).tensor_split(parts))


@dataclass(frozen=True)
class UnknownModel:
    """Gaussians by block, stored as what whitens them, and what known rows score.

    Size: 1.8 MB for six blocks of 384, and nine kilobytes a column.

    Attributes:
        sizes: widths of the blocks.
        relative: whether the distance to everything is subtracted.
        within: float16 upper triangles, one a block, row by row: a block times its triangle has
            unit covariance about the column's mean.
        means: ``[columns, width]`` float32 means of the columns, whitened by these.
        overall: the same about the mean of everything.
        centre: ``[width]`` float32 mean of everything, whitened by ``overall``.
        place: ``[2, signs]`` float32 mean and deviation of every sign over known rows.
        sure: ``[3, columns]`` float32 in steps: mean and deviation of how sure the column's expert
            is of known rows, and how sure whoever guesses is; 0 where nobody knows.
        known: scores of known rows.
    """

    sizes: tuple[int, ...]
    relative: bool
    within: Tensor
    means: Tensor
    overall: Tensor
    centre: Tensor
    place: Tensor
    sure: Tensor
    known: KnownScores

    @property
    def width(self) -> int:
        """See ``Unknown``."""
        return sum(self.sizes)

    @property
    def signs(self) -> int:
        """How many there are."""
        return len(self.sizes) + 2

    def judge(self, answered: Answered) -> Judged:
        """See ``Unknown``."""
        score = self.score(answered)
        p_value, rare = self.known.rare(score, answered.columns, answered.tokens, LEVEL)
        return Judged(score, rare, p_value)

    def score(self, answered: Answered) -> Tensor:
        """``[rows]`` float64: the router's strangeness and the expert's doubt, alike in weight."""
        strange, steps = answered.strangeness, answered.sureness
        mean, deviation, _ = self.sure.double()[:, answered.columns]
        doubt = (mean - steps.double()) / deviation
        heard = (steps != UNASKED) & self.telling[answered.columns]
        return torch.where(heard, (strange + doubt) / 2, strange)

    @cached_property
    def telling(self) -> Tensor:
        """``[columns]`` bool: whose expert is much surer of its own rows than a guess would be."""
        mean, deviation, guess = self.sure.double()
        told: Tensor = (deviation > 0) & (guess > 0) & (mean - guess >= TELLING * deviation)
        return told

    def evidence(self, columns: Tensor, sureness: Tensor) -> Tensor:
        """``[rows]`` float64 log-odds that rows are their column's, from its expert alone.

        Both for its own rows and for others how sure it is is taken as normal with the same
        deviation; of others it is half-way between its own rows and a guess.

        Args:
            columns: ``[rows]`` whose experts answered, all ``telling``.
            sureness: ``[rows]`` int16 of them.
        """
        mean, deviation, guess = self.sure.double()[:, columns]
        of_others = (mean + guess) / 2
        slope = (mean - of_others) / deviation.square()
        found: Tensor = slope * (sureness.double() - (mean + of_others) / 2)
        return found

    def strangeness(self, asked: Asked) -> Tensor:
        """See ``Unknown``; in double precision, so that it hardly depends on the batch."""
        mean, deviation = self._placed
        found: Tensor = ((self.of(asked) - mean) / deviation).mean(1)
        return found

    def of(self, asked: Asked) -> Tensor:
        """The signs ``[rows, signs]`` float64."""
        allowed = asked.scores > float("-inf")
        doubt = (1 - asked.confidence).clamp_min(SUREST).log()
        # Where one column alone may answer, nothing is to be doubted and nothing to be told.
        doubt = torch.where(allowed.sum(1) == 1, self.place[0, -2].to(doubt), doubt)
        blocks = torch.split(asked.values.double(), list(self.sizes), 1)
        distances = zip(self._distances, blocks, strict=True)
        near = [distance.of(block, allowed) for distance, block in distances]
        return torch.stack([*near, doubt, -asked.scores.amax(1)], 1)

    @cached_property
    def _placed(self) -> Tensor:
        """``place`` in float64; made once."""
        return self.place.double()

    @cached_property
    def _distances(self) -> tuple[Distance, ...]:
        """By block; made once."""
        triangles = [size * (size + 1) // 2 for size in self.sizes]
        parts = zip(
            self.sizes,
            torch.split(self.within, triangles),
            torch.split(self.means.double(), list(self.sizes), 1),
            torch.split(self.overall, triangles),
            torch.split(self.centre.double(), list(self.sizes)),
            strict=True,
        )
        return tuple(
            Distance.between(
                *(unpacked(within, size), means, unpacked(overall, size), centre),
                relative=self.relative,
            )
            for size, within, means, overall, centre in parts
        )

    def only(self, columns: Sequence[int]) -> UnknownModel:
        """The model without the other columns' means and known rows."""
        own = list(columns)
        means, sure = self.means[own].contiguous(), self.sure[:, own].contiguous()
        return replace(self, means=means, sure=sure, known=self.known.only(columns))

    def facts(self) -> dict[str, Any]:
        """What is not a tensor, as plain JSON."""
        return {"blocks": list(self.sizes), "relative": self.relative, "known": self.known.facts()}

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by name."""
        return {
            "unknown.within": self.within,
            "unknown.means": self.means,
            "unknown.overall": self.overall,
            "unknown.centre": self.centre,
            "unknown.place": self.place,
            "unknown.sure": self.sure,
            "unknown.known": self.known.scores,
        }

    @classmethod
    def read(cls, tensors: MutableMapping[str, Tensor], facts: Any, where: str) -> UnknownModel:
        """Take the model's tensors out of ``tensors``.

        Raises:
            KeyError, TypeError, ValueError: a tensor or fact is missing or of another form.
        """
        names = ("within", "means", "overall", "centre", "place")
        within, means, overall, centre, place = (tensors.pop(f"unknown.{n}") for n in names)
        # Routers of before experts were asked have none.
        sure = tensors.pop("unknown.sure", torch.zeros(3, len(means)))
        known = KnownScores.read(tensors.pop("unknown.known"), facts["known"])
        gaussians = (within, means, overall, centre)
        sizes = tuple(int(size) for size in facts["blocks"])
        return cls(sizes, bool(facts["relative"]), *gaussians, place, sure, known)

    def check(self, width: int, columns: int, where: str) -> None:
        """See ``Unknown``."""
        triangles = sum(size * (size + 1) // 2 for size in self.sizes)
        fits = min(self.sizes, default=0) > 0 and sum(self.sizes) == width
        fits = fits and self.within.shape == self.overall.shape == (triangles,)
        fits = fits and self.within.dtype == self.overall.dtype == torch.float16
        fits = fits and self.means.shape == (columns, width) and self.centre.shape == (width,)
        fits = fits and self.place.shape == (2, self.signs) and bool((self.place[1] > 0).all())
        fits = fits and self.sure.shape == (3, columns) and bool((self.sure[1] >= 0).all())
        for tensor in (self.means, self.centre, self.place, self.sure):
            fits = fits and tensor.dtype == torch.float32
        fits = fits and all(-1 <= one.column < columns for one in self.known.counts)
        if not fits:
            raise IntegrityError(f"{where}: unknown statistics do not fit {columns} columns")


def fit_unknown(moments: BalancedMoments, sizes: Sequence[int]) -> UnknownModel:
    """Gaussians from moments; ``calibrated`` is still to set what known rows are like.

    One column alone has no other to be told from: then the plain Mahalanobis distance is the
    sign, for the relative one would be zero everywhere.

    Args:
        moments: of all columns.
        sizes: widths of the blocks.
    """
    covariance, within, centre = moments.covariance, moments.within, moments.mean
    whiten, means, all_of_it, centres, start = [], [], [], [], 0
    for size in sizes:
        block = slice(start, start + size)
        near, far = (whitener(c[block, block]) for c in (within, covariance))
        whiten.append(packed(near))
        all_of_it.append(packed(far))
        # Of what is stored, not of what was rounded away.
        means.append(moments.means[:, block] @ unpacked(whiten[-1], size))
        centres.append(centre[block] @ unpacked(all_of_it[-1], size))
        start += size
    return UnknownModel(
        tuple(sizes),
        len(moments.means) > 1,
        torch.cat(whiten),
        torch.cat(means, 1).float(),
        torch.cat(all_of_it),
        torch.cat(centres).float(),
        torch.stack([torch.zeros(len(sizes) + 2), torch.ones(len(sizes) + 2)]),
        torch.zeros(3, len(moments.means)),
        KnownScores(torch.zeros(0), {}),
    )


def placed(model: UnknownModel, known: Asked) -> UnknownModel:
    """The model that knows what its signs are for whole known rows, which it was fitted without."""
    signs = model.of(known)
    spread = signs.std(0, correction=0)
    # A sign that is the same for all known rows says nothing.
    silent = spread < 1e-6 * (1 + signs.mean(0).abs())
    place = torch.stack([signs.mean(0), spread.masked_fill(silent, 1e30)]).float()
    return replace(model, place=place)


def calibrated(
    model: UnknownModel,
    known: Answered,
    whole: Tensor,
    sure: Sequence[Usual | None],
) -> UnknownModel:
    """The model that knows how strange known rows are.

    Args:
        model: as ``placed`` gave it.
        known: rows that it was fitted without, and their spans.
        whole: ``[rows]`` bool, whether a row is no span of another one; one is at least.
        sure: by column how sure its expert is of known rows, if known.
    """
    told = [(0, 0, 0) if o is None else (o.mean, o.deviation, o.guess or 0) for o in sure]
    model = replace(model, sure=torch.tensor(told, dtype=torch.float32).T.contiguous())
    scores = KnownScores.of(model.score(known), known.columns, known.tokens, whole)
    return replace(model, known=scores)
