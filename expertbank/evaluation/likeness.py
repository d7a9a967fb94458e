"""Groups of rows that are like each other, and rows that are like no other.

Average linkage over cosine distances of a sample. How wide a group may be, known rows tell: nearly
as wide as the tasks that they belong to. Where there are too few, the rows themselves tell: of a
range of cuts, the one whose rows are nearest to their own group in comparison with the next
(silhouette; Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of
cluster analysis", 1987). Rows beyond the sample go to the group that they are nearest to by the
same distance, if it is below the cut. Time and memory grow with the square of the sample only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

SAMPLE = 3000
"""Rows that the groups are made from."""
LEAST = 5
"""Rows of a group at the least; what is in a smaller one is alone."""
LEAST_KNOWN = 20
"""Known rows, of tasks with ``LEAST`` of them, that tell how wide a task is."""
NARROWER = 0.9
"""Width of a group, as a share of the mean distance between rows of one known task."""
CUTS = 40
"""Cuts of the hierarchy that are compared, where known rows do not tell."""
CHUNK = 4096
"""Rows compared with all groups at a time."""
ALONE = -1
"""The group of a row that has none."""

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Known:
    """Rows that are not to be grouped, and tell what a task is like.

    Attributes:
        vectors: ``[rows, width]``.
        tasks: ``[rows]`` number of the task that each belongs to.
    """

    vectors: Floats
    tasks: Ints


@dataclass(frozen=True, slots=True)
class Likeness:
    """What ``alike`` found.

    Attributes:
        group: ``[rows]`` number of a row's group, from 0, the largest first; ``ALONE`` for none.
        nearness: ``[rows]`` mean cosine with the rows that the row's group was made from; with
            none 0.
        count: groups.
        sampled: rows that the groups were made from.
        by_known: whether known rows told how wide a group may be.
    """

    group: Ints
    nearness: Floats
    count: int = 0
    sampled: int = 0
    by_known: bool = False


def alike(
    vectors: Floats, counts: Ints, known: Known | None = None, sample: int = SAMPLE
) -> Likeness:
    """Group rows by their vectors. The same input gives the same groups; nothing is drawn.

    Args:
        vectors: ``[rows, width]``, in an order that does not hang on where rows came from, such as
            that of a hash: the first ``sample`` are the sample.
        counts: ``[rows]`` how often each stands there; they count for how large a group is.
        known: rows of known tasks.
        sample: rows that the groups are made from.
    """
    if not len(vectors):
        return Likeness(np.zeros(0, np.int64), np.zeros(0, np.float32))
    centre, width = (np.zeros(1), None) if known is None else _told_by(known)
    units = _units(vectors[:sample], centre)
    own, cut = _cut(units, width)
    centres = np.stack([units[own == number].mean(0) for number in range(own.max() + 1)])
    rest = [
        _nearest(_units(vectors[start : start + CHUNK], centre), centres, cut)
        for start in range(len(units), len(vectors), CHUNK)
    ]
    group = np.concatenate([own, *(found for found, _ in rest)])
    nearness = np.concatenate([(units * centres[own]).sum(1), *(near for _, near in rest)])
    grouped = group != ALONE
    sizes = np.bincount(group[grouped], counts[grouped], minlength=len(centres))
    # The largest first; of equally large ones that of the earlier row.
    order = [number for number in np.argsort(-sizes, kind="stable") if sizes[number] >= LEAST]
    place = np.full(len(centres) + 1, ALONE)  # the last is that of ALONE
    place[order] = np.arange(len(order))
    group = place[group]
    nearness = np.where(group == ALONE, 0, nearness)
    return Likeness(group, nearness, len(order), len(units), width is not None)


def _told_by(known: Known) -> tuple[Floats, float | None]:
    """What known rows have in common, and how wide a group may be; ``None`` if they are too few.

    Every task weighs the same.
    """
    numbers, sizes = np.unique(known.tasks, return_counts=True)
    enough = numbers[sizes >= LEAST]
    if sizes[sizes >= LEAST].sum() < LEAST_KNOWN:
        return np.zeros(1), None
    units = _units(known.vectors, np.zeros(1))
    centre = np.mean([units[known.tasks == task].mean(0) for task in enough], axis=0)
    units = _units(known.vectors, centre)
    return centre, NARROWER * float(np.mean([_spread(units[known.tasks == t]) for t in enough]))


def _spread(units: Floats) -> float:
    """Mean distance between two different rows."""
    rows = len(units)
    return float((rows * rows - np.square(units.sum(0)).sum()) / (rows * (rows - 1)))


def _cut(units: Floats, width: float | None) -> tuple[Ints, float]:
    """``[rows]`` number of each row's group, and the mean distance up to which rows join one."""
    if len(units) == 1:
        return np.zeros(1, np.int64), width or 0.0
    # Rounded, so that what is the same but for the last bits is the same.
    distances = (1 - units @ units.T).clip(0).round(6)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average")
    if width is not None:
        return fcluster(tree, width, "distance").astype(np.int64) - 1, width
    heights = np.concatenate([[0.0], tree[:, 2]])  # of what left [rows, rows - 1, ..., 1] groups
    best, chosen, cut = -np.inf, np.zeros(len(units), np.int64), float(heights[-1])
    for count in sorted({int(one) for one in np.geomspace(2, max(2, len(units) // 2), CUTS)}):
        between = float(heights[-count : -count + 2 or None].mean())
        numbers = fcluster(tree, between, "distance").astype(np.int64) - 1
        if numbers.max() and (value := silhouette(distances, numbers)) > best:
            best, chosen, cut = value, numbers, between
    return chosen, cut


def _nearest(units: Floats, centres: Floats, cut: float) -> tuple[Ints, Floats]:
    """Group and nearness of rows beyond the sample."""
    near = units @ centres.T  # [rows, groups] mean cosine with the rows of each
    group = near.argmax(1)
    nearness = near[np.arange(len(units)), group]
    return np.where(1 - nearness <= cut, group, ALONE), nearness


def silhouette(distances: Floats, numbers: Ints) -> float:
    """Mean silhouette of groups, 0 for a row that is alone in its group.

    Args:
        distances: ``[rows, rows]``.
        numbers: ``[rows]`` number of each row's group, at least two.
    """
    rows = np.arange(len(numbers))
    sizes = np.bincount(numbers)
    member = np.zeros((len(numbers), len(sizes)), distances.dtype)
    member[rows, numbers] = 1
    sums = distances @ member  # [rows, groups]
    within = sums[rows, numbers] / np.maximum(sizes[numbers] - 1, 1)
    means = sums / sizes
    means[rows, numbers] = np.inf
    beside = means.min(1)
    larger = np.maximum(np.maximum(within, beside), 1e-12)
    return float(np.where(sizes[numbers] > 1, (beside - within) / larger, 0).mean())


def _units(vectors: Floats, centre: Floats) -> Floats:
    """Directions of rows as they are seen from ``centre``, in single precision."""
    values = _scaled(vectors.astype(np.float32))
    return _scaled(values - centre.astype(np.float32)) if centre.any() else values


def _scaled(values: Floats) -> Floats:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True).clip(1e-12))
