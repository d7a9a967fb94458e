"""Running many rows through the one-pass model, in the batch plan that is stored with results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.backbones.batches import EVALUATION_BATCH
from expertbank.data.clusters import cluster_numbers
from expertbank.evaluation.decisions import merged
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds.kind import Kind
from expertbank.models.routed import Decide, PassOutput, RoutedModel
from expertbank.models.writing import WriteOptions
from expertbank.records import EncodedRow, ProgressCallback, Target, no_progress
from expertbank.training.loop import Meter
from expertbank.writing import FIRST

PLAIN = WriteOptions()
"""Answers as the experts have them."""
FIRST_TOKEN = WriteOptions(lambda row: FIRST)
"""Answers of one token, which is what sureness is about."""
BATCH_PLAN: dict[str, Any] = {"order": "length", "batch_size": EVALUATION_BATCH}


@dataclass(frozen=True, slots=True)
class Measured:
    """What one named expert answered to rows, in the rows' order.

    Attributes:
        logits: ``[rows, classes]`` float32; equal choices are merged into the first of them.
        features: ``[rows, dimension]`` float16 routing features.
        targets: per row what its kind compares with.
        thresholds: the expert's, ``None`` where its kind has none.
        batch_plan: how the rows were batched.
        texts: what was written; ``None`` where the expert has a head.
    """

    logits: Tensor
    features: Tensor
    targets: tuple[Target, ...]
    thresholds: Tensor | None
    batch_plan: dict[str, Any]
    texts: tuple[str, ...] | None = None

    def predictions(
        self, kind: Kind, row_digests: Sequence[str], groups: Sequence[tuple[str, ...]] = ()
    ) -> Predictions:
        """The answers as they are stored; ``groups`` say which rows belong together."""
        return Predictions(
            self.logits.numpy(),
            kind.target_array(self.targets),
            tuple(row_digests),
            cluster_numbers(groups),
            None if self.thresholds is None else self.thresholds.numpy(),
            self.texts,
            None if self.texts is None else tuple(map(str, self.targets)),
        )


def answers(
    model: RoutedModel,
    rows: Sequence[EncodedRow],
    expert_id: str,
    progress: ProgressCallback = no_progress,
    options: WriteOptions = PLAIN,
) -> Measured:
    """Answer ``rows`` with one expert, by its id in the pool; evidence needs rows with targets.

    Features come from the pass that answers, but for texts that are cut and written on: what is
    read of those is their end, and the router reads their beginning.
    """

    def named(features: Tensor, positions: Sequence[int]) -> list[str]:
        return [expert_id] * len(positions)

    expert = model.pool.expert(expert_id)
    stage = f"evaluating {expert.task or expert_id}"
    write = None if expert.writing is None else options
    read = rows if write is None else [row.to_write_on for row in rows]
    outputs = run(model, read, named, stage, progress, write=write)
    logits = [output.logits for output in outputs]
    width = max(part.shape[1] for part in logits)
    order = [position for output in outputs for position in output.rows]
    ordered = in_order(torch.cat([_widened(part, width) for part in logits]), order)
    for place, row in enumerate(rows):
        if row.first:
            ordered[place] = torch.from_numpy(merged(ordered[place].numpy(), row.first))
    features = in_order(torch.cat([output.features for output in outputs]), order)
    cut = [place for place, row in enumerate(rows) if read[place] is not row]
    if cut:
        features[cut] = trunk_features(model, [rows[place] for place in cut])
    return Measured(
        ordered,
        features,
        tuple(row.target for row in rows if row.target is not None),
        outputs[0].thresholds[0],
        BATCH_PLAN,
        None if write is None else _texts(outputs),
    )


def _texts(outputs: Sequence[PassOutput]) -> tuple[str, ...]:
    """What was written, in the rows' order."""
    pairs = [pair for output in outputs for pair in zip(output.rows, output.written, strict=True)]
    return tuple(one.text if one else "" for _, one in sorted(pairs, key=lambda pair: pair[0]))


def run(
    model: RoutedModel,
    rows: Sequence[EncodedRow],
    decide: Decide,
    stage: str,
    progress: ProgressCallback = no_progress,
    batch_size: int = EVALUATION_BATCH,
    write: WriteOptions | None = None,
) -> list[PassOutput]:
    """Pass all rows, batch by batch; outputs come in plan order and carry their positions.

    Their features and logits are on the CPU, fetched once a batch. ``write`` is to be given where
    an expert may be chosen that writes.
    """
    meter = Meter(stage, len(rows), progress)
    outputs = []
    for batch in model.batches(rows, batch_size, left=write is not None):
        output = model(batch, decide, write)
        features, logits = output.features.cpu(), output.logits.cpu()
        outputs.append(replace(output, features=features, logits=logits))
        meter.advance(len(batch.rows), batch.tokens)
    return outputs


def trunk_features(
    model: RoutedModel, rows: Sequence[EncodedRow], progress: ProgressCallback = no_progress
) -> Tensor:
    """Routing features ``[rows, dimension]`` of rows in their order; the branch is not run."""
    meter = Meter("caching routing features", len(rows), progress)
    found: list[Tensor] = []
    order: list[int] = []
    for batch in model.batches(rows, EVALUATION_BATCH):
        found.append(model.trunk_features(batch).cpu())
        order += batch.rows
        meter.advance(len(batch.rows), batch.tokens)
    return in_order(torch.cat(found), order)


def _widened(logits: Tensor, width: int) -> Tensor:
    """``logits`` with ``-inf`` columns up to ``width``: batches differ in their most choices."""
    return F.pad(logits, (0, width - logits.shape[1]), value=float("-inf"))


def in_order(values: Tensor, positions: Sequence[int]) -> Tensor:
    """Rows of ``values``, which stand in plan order, back at their own positions."""
    result = torch.empty_like(values)
    result[torch.tensor(positions)] = values
    return result
