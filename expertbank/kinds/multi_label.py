"""Any number of a fixed set of labels, none included: one independent probability a label.

A row's label is a JSON list of its labels, sorted. It is right when the whole set is (exact match),
so that verdicts count rows as they do for every other kind.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from expertbank.config import canonical_json
from expertbank.errors import DataError
from expertbank.evaluation.decisions import holding, likelihoods
from expertbank.evaluation.outcome import Bools, Counted, Outcome
from expertbank.evaluation.predictions import Floats, Predictions
from expertbank.evaluation.scores import against_majority
from expertbank.kinds.answer import Answer
from expertbank.kinds.kind import TOLERANCE, Kind, per_label_counts
from expertbank.kinds.labels import alike_remarks, joined, place_of, shown_label
from expertbank.kinds.objective import Objective
from expertbank.kinds.rules import LabelRules, RawLabel
from expertbank.records import Row, Target
from expertbank.texts import as_python_prints, is_blank, plain_text

if TYPE_CHECKING:
    from torch import Tensor

FEWEST = 10
"""Held-out rows with a label from which on the label gets a threshold of its own; rarer labels
share the one that serves all labels together best."""
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


class MultiLabel(Kind):
    """A text, or two, and the labels that hold for it."""

    name = "multi_label"
    has_thresholds = True
    snippet = """
def answer(text, text_pair=None):
    logits = outputs(text, text_pair)
    probabilities = dict(zip(about["labels"], logits.sigmoid().tolist()))
    holding = (logits >= head["threshold"]).tolist()
    return [label for label, holds in zip(about["labels"], holding) if holds], probabilities


print(answer("your text"))
"""

    def claims(self, *, choices: bool, rules: LabelRules) -> bool:
        """Only here a row has several labels."""
        return bool(rules.flags) or rules.separator is not None

    def raw_label(
        self, values: Mapping[str, Any], column: str | None, rules: LabelRules, origin: str
    ) -> Any:
        """The raw labels; an empty cell is a row without any, and a dropped label drops its row."""
        value = None if column is None else values.get(column)
        if rules.flags:
            found = [flag for flag in rules.flags if _holds(values.get(flag), flag, origin)]
        elif value is None or (isinstance(value, str) and is_blank(value)):
            return None if None in rules.drop else []
        else:
            parts = _parts(value, rules.separator, column or "label", origin)
            texts = [plain_text(part, origin, column or "label") for part in parts]
            found = [text.strip() for text in texts if text is not None and not is_blank(text)]
        return None if set(rules.drop).intersection(found) else found

    def label(self, raw: RawLabel) -> str:
        """The shown names, sorted, each once."""
        shown = {shown_label(one, raw.rules, raw.origin) for one in raw.value}
        return canonical_json(sorted(shown))

    def counted(self, row: Row) -> tuple[str, ...]:
        """Each of the row's labels."""
        return () if row.label is None else tuple(json.loads(row.label))

    def remarks(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Labels that differ only in case; what looks like a list that was never parted."""
        counts = Counter(label for row in rows for label in self.counted(row))
        remarks = alike_remarks(counts)
        for sign in (";", "|", ","):
            joined = [label for label in counts if sign in label]
            if len(joined) > len(counts) / 2:
                remarks.append(
                    f"{len(joined)} of {len(counts)} labels hold {sign!r}, such as "
                    f"{joined[0]!r}: if they are several labels, part them with "
                    f"--label-separator {sign!r}"
                )
        return tuple(remarks)

    def target(self, row: Row, places: Mapping[str, int]) -> Target | None:
        """One a label: 1 where it holds, else 0."""
        if row.label is None:
            return None
        held = {place_of(label, places, row) for label in self.counted(row)}
        return tuple(float(place in held) for place in range(len(places)))

    def objective(
        self, labels: Sequence[str], targets: Sequence[Target], *, balance: bool = False
    ) -> Flags:
        """Binary cross-entropy; if asked, what holds weighs as much as what does not."""
        if not balance:
            return Flags()
        holds = np.array(targets, dtype=np.float64).sum(0)
        weights = np.where(holds > 0, (len(targets) - holds) / np.maximum(holds, 1), 1.0)
        return Flags(tuple(np.clip(weights, 1.0, 100.0).tolist()))

    def outcome(self, predictions: Predictions) -> Outcome:
        """A row is right when its whole set of labels is."""
        return Counted(np.asarray((_answered(predictions) == predictions.targets).all(1)))

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """Exact match against the most frequent set, micro- and macro-F1."""
        answered, true = _answered(predictions), predictions.targets.astype(bool)
        _, sets = np.unique(true, axis=0, return_inverse=True)
        found = against_majority(self.outcome(predictions), sets.ravel(), predictions.clusters)
        hits = (answered & true).sum(0)
        given = answered.sum(0) + true.sum(0)
        f1 = 2 * hits[given > 0] / given[given > 0]
        return {
            **found,
            "exact_match": found["accuracy"],
            "micro_f1": float(2 * hits.sum() / given.sum()) if given.sum() else 1.0,
            "macro_f1": float(f1.mean()) if len(f1) else 1.0,
        }

    def headline(self, metrics: Mapping[str, Any]) -> tuple[str, float | None]:
        """Exact match, which is the accuracy of whole sets."""
        return "exact match", metrics.get("accuracy")

    def beside(self, metrics: Mapping[str, Any]) -> str:
        """What exact match hides: answers that are nearly right."""
        if "micro_f1" not in metrics:
            return ""
        return f"micro-F1 {metrics['micro_f1']:.3f}, macro-F1 {metrics['macro_f1']:.3f}"

    def same(self, before: Floats, now: Floats, thresholds: Floats | None) -> tuple[Bools, Bools]:
        """Equal sets, and sets that differ only in labels close to their threshold."""
        edge = np.float32(0) if thresholds is None else thresholds
        differ = holding(before, thresholds) != holding(now, thresholds)
        far = differ & (np.abs(before - edge) >= TOLERANCE)
        return ~differ.any(1), ~far.any(1)

    def answer(
        self, logits: Tensor, row: Row, labels: tuple[str, ...], thresholds: Tensor | None
    ) -> Answer:
        """The labels whose score reaches their threshold."""
        own = logits[: len(labels)].cpu().numpy()
        edges = np.zeros(len(labels)) if thresholds is None else thresholds.cpu().numpy()
        scores, least = (
            dict(zip(labels, likelihoods(side).tolist(), strict=True)) for side in (own, edges)
        )
        held = tuple(label for label in labels if scores[label] >= least[label])
        return Answer(None, scores, joined(held) or "(none)", labels=held, thresholds=least)

    def sureness(self, logits: Tensor) -> Tensor:
        """The labels' mean: each is likelier to hold than not, or the other way round."""
        from torch.nn.functional import softplus

        own = logits.double()
        known = own > float("-inf")
        sure = softplus(own.abs().masked_fill(~known, 0)) * known
        return sure.sum(1) / known.sum(1)

    def is_right(self, label: str, answer: Answer) -> bool:
        """The same set."""
        return sorted(answer.labels or ()) == list(json.loads(label))

    def per_label(
        self, labels: Sequence[str], answers: Sequence[Answer]
    ) -> dict[str, dict[str, int]]:
        """Rows that have each label, and how many were answered with it."""
        return per_label_counts(
            (one, one in (answer.labels or ()))
            for label, answer in zip(labels, answers, strict=True)
            for one in json.loads(label)
        )


MULTI_LABEL = MultiLabel()


@dataclass(frozen=True, slots=True)
class Flags(Objective):
    """Binary cross-entropy, summed over labels and averaged over rows.

    Attributes:
        weights: per label how much more a row counts that has it; ``None`` for all alike.
    """

    weights: tuple[float, ...] | None = None

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy, summed over labels: a row weighs as much as with one label."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        weights = None if self.weights is None else logits.new_tensor(self.weights)
        losses = binary_cross_entropy_with_logits(
            logits, targets, reduction="none", pos_weight=weights
        )
        return losses.sum(1).mean()

    def score(self, logits: Tensor, targets: Tensor) -> float:
        """Mean over rows of F1 between answered and true labels, at probability one half.

        Two empty sets agree. Unlike micro-F1 it is a mean over rows, whatever the batches.
        """
        answered, true = (logits >= 0).cpu(), targets.bool().cpu()
        hits = (answered & true).sum(1).double()
        given = (answered.sum(1) + true.sum(1)).double()
        return float((2 * hits / given.clamp_min(1)).where(given > 0, given.new_ones(())).mean())

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Ridge regression of every label on the frozen features."""
        from expertbank.kinds.probe import probe_flags

        return probe_flags(features, targets)

    def thresholds(self, logits: Tensor, targets: Tensor) -> Tensor:
        """``[labels]`` logits that give the best F1 on held-out training rows."""
        scores, true = logits.cpu().double().numpy(), targets.cpu().bool().numpy()
        shared = best_threshold(scores.ravel(), true.ravel())
        own = [
            best_threshold(scores[:, label], true[:, label])
            if true[:, label].sum() >= FEWEST
            else shared
            for label in range(true.shape[1])
        ]
        return logits.new_tensor(own).cpu()


def best_threshold(scores: npt.NDArray[np.float64], true: npt.NDArray[np.bool_]) -> float:
    """The logit from which on answering gives the highest F1; of equal ones that nearest to 0.

    Args:
        scores: ``[n]`` logits.
        true: ``[n]`` whether each holds.

    Returns:
        Half-way between two scores, within probabilities of 5% and 95%; 0 where nothing holds.
    """
    if not true.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    hits = np.cumsum(true[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + true.sum())
    # Equal scores are answered alike, so a cut lies only where the next score is lower.
    following = np.append(ordered[1:], ordered[-1] - 2.0)
    cuts = np.clip((ordered + following) / 2, -2.944, 2.944)
    usable = (ordered > following) & (ordered >= cuts) & (following < cuts)
    if not usable.any():
        return 0.0
    best = f1[usable].max()
    return float(min(cuts[usable & (f1 == best)], key=abs))


def _answered(predictions: Predictions) -> Bools:
    return holding(predictions.logits, predictions.thresholds)


def _holds(value: Any, column: str, origin: str) -> bool:
    text = plain_text(value, origin, column)
    found = FLAGS.get((text or "").strip().lower())
    if found is None:
        raise DataError(
            f"{origin}: column {column!r} holds {text!r}; a label's own column holds 0 or 1",
            "not 0 or 1",
        )
    return found


def _parts(value: Any, separator: str | None, column: str, origin: str) -> Sequence[Any]:
    """The labels in one cell: a list, JSON text of one, or text parted by a separator."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return list(value)
    text = plain_text(value, origin, column) or ""
    if separator is not None:
        return text.split(separator)
    if not text.lstrip().startswith("["):
        return [text]
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{origin}: column {column!r} holds no valid JSON list of labels: {error}"
            + as_python_prints(text),
            "labels",
        ) from error
    if not isinstance(found, list):
        raise DataError(f"{origin}: column {column!r} holds no list of labels", "labels")
    return found
