"""Figures that kinds of task take of an evaluation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from expertbank.evaluation.decisions import chosen
from expertbank.evaluation.outcome import Outcome
from expertbank.evaluation.predictions import Predictions
from expertbank.evaluation.statistics import p_beats_constant, p_by_signs
from expertbank.evaluation.units import clusters_of, is_clustered

Numbers = npt.NDArray[np.generic]


def against_majority(
    outcome: Outcome, targets: Numbers, clusters: npt.NDArray[np.int32] | None
) -> dict[str, Any]:
    """``accuracy``, ``n``, ``majority`` and ``p_beats_majority`` of rows that are right or wrong.

    ``majority`` is the share of the most frequent target: what always answering it would reach.
    The p-value is that of the one-sided exact McNemar test against doing so; where rows come in
    clusters, of the exact test by signs of their sums, which McNemar's is for rows alone.

    Args:
        outcome: the rows.
        targets: ``[rows]`` a number for each different target.
        clusters: ``[rows]`` numbers of clusters that belong together; ``None`` without.
    """
    answers = [int(target) for target in targets]
    most, count = Counter(answers).most_common(1)[0]
    everywhere = np.ones(len(answers), dtype=bool)
    right = outcome.rows(everywhere).astype(bool)
    constant = np.array([answer == most for answer in answers])
    if is_clustered(clusters):
        lead = clusters_of(right.astype(float) - constant.astype(float), clusters)
        p_value = p_by_signs(lead.says.astype(int).tolist())
    else:
        p_value = p_beats_constant(right.tolist(), constant.tolist())
    return {
        "accuracy": int(right.sum()) / len(right),
        "n": len(right),
        "majority": count / len(right),
        "p_beats_majority": p_value,
    }


def confusion_matrix(predictions: Predictions) -> npt.NDArray[np.int64]:
    """``[classes, classes]`` counts, rows the targets, columns the answers."""
    classes = predictions.logits.shape[1]
    flat = predictions.targets.astype(np.int64) * classes + chosen(predictions.logits)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur as a target or an answer."""
    hits, given, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    present = given + answered > 0
    return float((2 * hits[present] / (given + answered)[present]).mean())


def matthews(confusion: npt.NDArray[np.int64]) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where undefined."""
    n, hits = float(confusion.sum()), float(confusion.diagonal().sum())
    given, answered = confusion.sum(1).astype(float), confusion.sum(0).astype(float)
    scale = np.sqrt(n**2 - (given**2).sum()) * np.sqrt(n**2 - (answered**2).sum())
    return float((hits * n - (given * answered).sum()) / scale) if scale > 0 else 0.0
