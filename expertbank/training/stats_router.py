"""Fitting the router where only moments were kept of every task, and no row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from expertbank.config import RouterConfig
from expertbank.errors import InputError
from expertbank.models.gates import Layer, Member, Router
from expertbank.models.moments_file import NAME
from expertbank.models.unknown import projection_of
from expertbank.records import RowShape
from expertbank.training.gates import FITS, FROM_MOMENTS, Block, Examples, competing
from expertbank.training.moments import BalancedMoments, Moments
from expertbank.training.router import best_temperature, held_out
from expertbank.training.unknown import fit_unknown, threshold_of

DRAWN = 100
"""Most rows drawn a column to calibrate; fewer for many columns, so the cost stays linear."""
DRAWN_SCORES = 20_000_000


@dataclass(frozen=True, slots=True)
class TaskMoments:
    """Moments of one expert's training rows, after the fixed projection."""

    id: str
    digest: str
    task: str
    kind: str
    group: str | None
    moments: Moments
    reads: tuple[RowShape, ...]

    @property
    def column(self) -> tuple[str | None, str]:
        """What the gate chooses: the group, or the task alone."""
        return (self.group, "") if self.group else (None, self.task)


def fit_stats_router(
    tasks: Sequence[TaskMoments], dimension: int, config: RouterConfig, feature_spec_digest: str
) -> Router:
    """Fit a gate from moments; any order of tasks gives the same bytes.

    The projection is folded into the gate, which reads plain features. There are no rows to
    calibrate on, so rows are drawn from the Gaussian that each column's moments describe. Real
    rows have heavier tails: more than 5% of known rows may be called unknown.

    Args:
        tasks: moments of every member, at least one.
        dimension: width of the features before projection.
        config: which gate; one that is fitted from moments.
        feature_spec_digest: the spec the features were made under.

    Raises:
        InputError: a gate kind that needs rows.
    """
    if config.kind not in FROM_MOMENTS:
        raise InputError(
            f"a {config.kind} gate is trained on features, and this bank keeps statistics only; "
            f"possible here: {', '.join(sorted(FROM_MOMENTS))}"
        )
    ordered = sorted(tasks, key=lambda task: task.digest)
    names = list(dict.fromkeys(task.column for task in ordered))
    parts = [[task for task in ordered if task.column == name] for name in names]
    members = tuple(
        Member(task.id, task.digest, task.task, task.kind, names.index(task.column), task.reads)
        for task in ordered
    )
    reads = [{shape for task in part for shape in task.reads} for part in parts]
    columns = [sum((t.moments for t in part[1:]), part[0].moments) for part in parts]
    blocks = []
    for own in competing(reads):
        block = Block(own, BalancedMoments())
        for column in own:
            block.moments.add(columns[column])
        blocks.append(block)
    examples = Examples(blocks, (), ())
    (narrow,) = FITS[config.kind](examples, config)
    generator = torch.Generator().manual_seed(0)
    count = max(2, min(DRAWN, DRAWN_SCORES // len(columns) ** 2))
    drawn = [moments.sample(count, generator) for moments in columns]
    # Drawn rows take turns among the shapes that their column's experts read.
    shapes = [[sorted(own)[row % len(own)] for row in range(count)] for own in reads]
    held = held_out(drawn, shapes, reads)
    assert held is not None
    temperature = best_temperature((narrow,), held) if len(columns) > 1 else 1.0
    projection = projection_of(dimension, NAME)
    unknown = fit_unknown(examples.moments, dimension, NAME)
    scores = unknown.score_projected(held.features, held.allowed)
    layer = Layer((projection @ narrow.weight.double()).float(), narrow.bias)
    return Router(
        config.kind,
        members,
        feature_spec_digest,
        temperature,
        (layer,),
        replace(unknown, threshold=threshold_of(scores, held.targets)),
    )
