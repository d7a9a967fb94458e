"""How good answers are, by kind of task."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from expertbank.evaluation.evidence import OracleEvidence
from expertbank.evaluation.statistics import p_beats_constant
from expertbank.records import TaskKind

Numbers = npt.NDArray[np.generic]


def scores(evidence: OracleEvidence, kind: TaskKind) -> dict[str, Any]:
    """The metrics of one evaluation.

    Classes and choices: ``accuracy``, ``n``, ``majority`` (share of the most frequent target:
    what always answering it would reach), ``p_beats_majority`` (one-sided exact McNemar), and
    for classes ``macro_f1`` and ``matthews``. Values: ``n``, ``pearson``, ``spearman``,
    ``mse``; ``accuracy`` and ``majority`` are ``None``.
    """
    if evidence.is_value:
        return _of_values(evidence)
    targets = [int(target) for target in evidence.targets]
    majority_class, majority_count = Counter(targets).most_common(1)[0]
    right = [bool(row) for row in evidence.right]
    found: dict[str, Any] = {
        "accuracy": sum(right) / len(right),
        "n": len(right),
        "majority": majority_count / len(right),
        "p_beats_majority": p_beats_constant(right, [t == majority_class for t in targets]),
    }
    if kind == "classification":
        confusion = confusion_matrix(evidence)
        found |= {"macro_f1": macro_f1(confusion), "matthews": matthews(confusion)}
    return found


def quality(evidence: OracleEvidence) -> float | None:
    """The one figure that reports compare: accuracy, or Pearson's correlation of values."""
    if evidence.is_value:
        return pearson(evidence.values, evidence.targets)
    return float(evidence.right.mean())


def pearson(answers: Numbers, targets: Numbers) -> float | None:
    """Linear correlation; ``None`` where one side is constant."""
    a, b = np.asarray(answers, float), np.asarray(targets, float)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def confusion_matrix(evidence: OracleEvidence) -> npt.NDArray[np.int64]:
    """``[classes, classes]`` counts, rows the targets, columns the answers."""
    classes = evidence.logits.shape[1]
    flat = evidence.targets.astype(np.int64) * classes + evidence.predicted
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


def _of_values(evidence: OracleEvidence) -> dict[str, Any]:
    from scipy.stats import spearmanr

    answers, targets = evidence.values, evidence.targets
    linear = pearson(answers, targets)
    return {
        "accuracy": None,
        "n": len(targets),
        "majority": None,
        "pearson": linear,
        "spearman": None if linear is None else float(spearmanr(answers, targets).statistic),
        "mse": float(np.square(answers - targets).mean()),
    }
