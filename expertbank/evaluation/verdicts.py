"""What may be said of a task's routed quality at two points in time.

Four verdicts, from best to worst:

* ``identical``: no row was sent elsewhere. A fact about these rows; it needs no statistics.
* ``preserved``: shown at 95% that the loss is smaller than the margin (non-inferiority).
* ``inconclusive``: neither a loss nor its absence was shown; mostly there are too few rows.
* ``lost``: shown at 95% that quality fell at all, and not shown that it fell by less than the
  margin. A fall that is proved and also proved to be within the margin is ``preserved``: that is
  what a margin is for. A fall need not be proved to be larger than the margin to count as lost:
  whoever signs a release should not have to accept one that is known to be there and whose size
  is not known to be acceptable.

A task that is answered by values has two qualities: the correlation of its values, and the share
of its rows that reach it. A row that is sent elsewhere gets no value at all, and with the rows gone
that an expert is bad at, the correlation of the others can rise. So the absence of a loss must be
shown of both (an intersection-union test: Berger, Technometrics 24, 1982); a loss of either is one.

Both proofs are one-sided tests at 5%, and for each the p-values of all compared tasks are
corrected together (Holm): over the whole report the chance of one or more false ``preserved`` is
at most 5%, and so is that of one or more false ``lost``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from expertbank.evaluation.noninferiority import (
    margin_without_loss,
    p_noninferior,
    score_interval,
    smallest_margin,
)
from expertbank.evaluation.statistics import holm, p_mcnemar, p_more_often
from expertbank.evaluation.units import clusters_of, correlation_units, is_clustered

Verdict = Literal["identical", "preserved", "inconclusive", "lost"]
VERDICTS: tuple[Verdict, ...] = ("identical", "preserved", "inconclusive", "lost")
"""From best to worst."""
Method = Literal["score", "cluster-t", "jackknife-t"]
ALPHA = 0.05

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same rows under two routers.

    Attributes:
        before: ``[rows]`` whether each was right; for regression the value answered.
        now: the same under the other router.
        flipped: ``[rows]`` whether the choice changed.
        targets: ``[rows]`` true values; ``None`` unless regression.
        clusters: ``[rows]`` numbers of clusters that belong together; ``None`` without.
        reached: for regression ``[rows]`` whether each reached its task before, and now; ``None``
            if all did both times.
    """

    before: Bools | Floats
    now: Bools | Floats
    flipped: Bools
    targets: Floats | None = None
    clusters: npt.NDArray[np.int32] | None = None
    reached: tuple[Bools, Bools] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What the rows say about the change, before any verdict.

    Attributes:
        n: rows compared.
        flips: rows whose choice changed: the prediction churn.
        losses: rows that were right and are wrong; for regression, that no longer reach it.
        gains: rows that were wrong and are right; for regression, that reach it again.
        change: quality now minus before; ``None`` where it is not defined.
        interval: 90% interval of the change: each end a one-sided 95% bound.
        p_mcnemar: two-sided exact McNemar; ``None`` for regression, and where rows come in
            clusters.
        p_noninferiority: one-sided, against a loss of the margin or more.
        p_loss: one-sided, against no loss.
        margin_provable: smallest margin these rows prove, taken alone, at 95%.
        margin_possible: smallest margin so many rows could prove with no row lost.
        method: how interval and p-values were worked out.
        clusters: number of clusters; ``None`` without.
    """

    n: int
    flips: int
    losses: int
    gains: int
    change: float | None
    interval: tuple[float, float] | None
    p_mcnemar: float | None
    p_noninferiority: float | None
    p_loss: float | None
    margin_provable: float | None
    margin_possible: float | None
    method: Method
    clusters: int | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict with the p-values it rests on, corrected over all tasks of the report."""

    verdict: Verdict
    p_noninferiority_adjusted: float | None
    p_loss_adjusted: float | None


def measure(pairs: Pairs, margin: float) -> Change:
    """Work out what one task's rows say.

    Matched rows go to Tango's score test with its exact size; clustered rows and regression to
    Student's test on what clusters, or rows, say of the change.
    """
    if pairs.targets is None:
        return _of_rows(pairs, pairs.before.astype(bool), pairs.now.astype(bool), margin)
    everywhere = np.ones(len(pairs.now), dtype=bool)
    then, now = pairs.reached or (everywhere, everywhere)
    return _of_both(_of_values(pairs, margin), _of_rows(pairs, then, now, margin))


def _of_rows(pairs: Pairs, before: Bools, now: Bools, margin: float) -> Change:
    n, losses, gains = len(now), int((before & ~now).sum()), int((~before & now).sum())
    if is_clustered(pairs.clusters):
        units = clusters_of(now.astype(float) - before.astype(float), pairs.clusters)
        interval, p_close, p_loss = units.interval, units.p_at_most(-margin), units.p_at_least(0)
        provable = units.margin_provable
        possible = units.without_loss().margin_provable
        method: Method = "cluster-t"
        clusters: int | None = len(units.says)
        p_exact = None
    else:
        interval = score_interval(gains, losses, n)
        p_close = p_noninferior(gains, losses, n, margin)
        p_loss = p_more_often(losses, gains)
        provable = smallest_margin(gains, losses, n)
        possible = margin_without_loss(n)
        method, clusters, p_exact = "score", None, p_mcnemar(gains, losses)
    return Change(
        n,
        int(pairs.flipped.sum()),
        losses,
        gains,
        (gains - losses) / n,
        interval,
        p_exact,
        p_close,
        p_loss,
        provable,
        possible,
        method,
        clusters,
    )


def judge(changes: Sequence[Change]) -> tuple[Judged, ...]:
    """Verdicts over all compared tasks of one report, corrected together.

    Tasks without a flip take part in the correction too: which tasks have flips is itself seen
    in the data.
    """
    close = holm([1.0 if c.p_noninferiority is None else c.p_noninferiority for c in changes])
    fell = holm([1.0 if c.p_loss is None else c.p_loss for c in changes])
    judged = []
    for change, p_close, p_fell in zip(changes, close, fell, strict=True):
        verdict: Verdict = "inconclusive"
        if change.flips == 0:
            verdict = "identical"
        elif p_close <= ALPHA:
            verdict = "preserved"
        elif p_fell <= ALPHA:
            verdict = "lost"
        judged.append(
            Judged(
                verdict,
                None if change.p_noninferiority is None else p_close,
                None if change.p_loss is None else p_fell,
            )
        )
    return tuple(judged)


def worst(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """The worst verdict there is; ``None`` where none is."""
    given = [verdict for verdict in verdicts if verdict is not None]
    return max(given, key=VERDICTS.index) if given else None


def _of_values(pairs: Pairs, margin: float) -> Change:
    assert pairs.targets is not None
    clusters = pairs.clusters if is_clustered(pairs.clusters) else None
    count = None if clusters is None else len(np.unique(clusters))
    flips, n = int(pairs.flipped.sum()), len(pairs.targets)
    before, now = pairs.before.astype(float), pairs.now.astype(float)
    units = correlation_units(before, now, pairs.targets, clusters)
    if units is None:
        same = 0.0 if np.array_equal(before, now) else None
        return Change(
            n, flips, 0, 0, same, None, None, None, None, None, None, "jackknife-t", count
        )
    return Change(
        n,
        flips,
        0,
        0,
        units.change,
        units.interval,
        None,
        units.p_at_most(-margin),
        units.p_at_least(0),
        units.margin_provable,
        None,
        "jackknife-t",
        count,
    )


def _of_both(values: Change, reached: Change) -> Change:
    """A regression task's change: that of its values, and that no fewer rows reach it."""
    fell = [one.p_loss for one in (values, reached) if one.p_loss is not None]
    p_close: float | None = None
    provable: float | None = None
    if values.p_noninferiority is not None and reached.p_noninferiority is not None:
        p_close = max(values.p_noninferiority, reached.p_noninferiority)
    if values.margin_provable is not None and reached.margin_provable is not None:
        provable = max(values.margin_provable, reached.margin_provable)
    return replace(
        values,
        losses=reached.losses,
        gains=reached.gains,
        p_noninferiority=p_close,
        # Either may have fallen, so of two tests (Bonferroni).
        p_loss=min(1.0, len(fell) * min(fell)) if fell else None,
        margin_provable=provable,
        margin_possible=reached.margin_possible,
    )
