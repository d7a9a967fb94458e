"""A text that is answered by text: the backbone's language model writes it, token by token.

There is no head. A row's prompt is what the router reads; what stands between prompt and answer
is the expert's (``writing.Writing``). Training takes the loss of the answer's tokens alone, and
the end of the answer is one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from expertbank.evaluation.outcome import Bools, Counted, Outcome
from expertbank.evaluation.predictions import Ints, Predictions
from expertbank.evaluation.scores import against_majority
from expertbank.evaluation.texts import rouge_l, same_text, token_f1
from expertbank.kinds.answer import Answer
from expertbank.kinds.kind import TOLERANCE, Kind
from expertbank.kinds.objective import Objective
from expertbank.kinds.rules import RawLabel
from expertbank.records import Row, Target

if TYPE_CHECKING:
    from torch import Tensor

BEGINS, OTHERWISE, LEAD = 0, 1, 3
"""Columns of ``models.writing.FIGURES`` that are read here."""


class Generation(Kind):
    """A prompt, or two texts, and the text that answers it."""

    name = "generation"
    writes = True
    names_labels = False
    label_word = "answer"

    def label(self, raw: RawLabel) -> str:
        """The answer as it stands."""
        return raw.rules.names.get(raw.value, raw.value)

    def counted(self, row: Row) -> Collection[str]:
        """Texts are not counted."""
        return ()

    def target(self, row: Row, places: Mapping[str, int]) -> Target | None:
        """The text."""
        return row.label

    def target_array(self, targets: Sequence[Target]) -> Ints:
        """``[rows]`` int32, the same number for texts that count as equal."""
        numbers: dict[tuple[str, ...], int] = {}
        words = (tuple(str(target).split()) for target in targets)
        found = [numbers.setdefault(own, len(numbers)) for own in words]
        return np.array(found, dtype=np.int32)

    def outputs(self, labels: Sequence[str]) -> int:
        """No head."""
        return 0

    def objective(
        self, labels: Sequence[str], targets: Sequence[Target], *, balance: bool = False
    ) -> NextTokens:
        """Cross-entropy of the answers' tokens; there are no classes to balance."""
        return NextTokens()

    def outcome(self, predictions: Predictions) -> Outcome:
        """A row is right when its answer is the text that was wanted."""
        texts, wanted = _both(predictions)
        return Counted(np.array(list(map(same_text, texts, wanted)), dtype=bool))

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """Exact match, F1 of words, and ROUGE-L where package rouge-score is installed."""
        texts, wanted = _both(predictions)
        alike = self.target_array(wanted)
        found = against_majority(self.outcome(predictions), alike, predictions.clusters)
        return {
            **found,
            "exact_match": found["accuracy"],
            "token_f1": float(fmean(map(token_f1, texts, wanted))),
            "rouge_l": rouge_l(texts, wanted),
        }

    def headline(self, metrics: Mapping[str, Any]) -> tuple[str, float | None]:
        """Exact match, which is the accuracy of whole answers."""
        return "exact match", metrics.get("accuracy")

    def beside(self, metrics: Mapping[str, Any]) -> str:
        """What exact match hides: answers that are nearly right."""
        if "token_f1" not in metrics:
            return ""
        rouge = metrics.get("rouge_l")
        return f"token F1 {metrics['token_f1']:.3f}" + (
            "" if rouge is None else f", ROUGE-L {rouge:.3f}"
        )

    def alike(self, before: Predictions, now: Predictions) -> tuple[Bools, Bools]:
        """Equal texts; and texts that differ where two tokens were about equally likely."""
        one, two = before.texts or (), now.texts or ()
        same = np.array([a == b for a, b in zip(one, two, strict=True)], dtype=bool)
        lead = np.minimum(before.logits[:, LEAD], now.logits[:, LEAD])
        return same, np.asarray(lead < TOLERANCE)

    def sureness(self, logits: Tensor) -> Tensor:
        """That of the answer's first token: the rest of it costs a pass each."""
        import torch

        own = logits[:, [BEGINS, OTHERWISE]].double()
        return torch.logsumexp(own, 1) - own[:, OTHERWISE - BEGINS]

    def is_right(self, label: str, answer: Answer) -> bool:
        """The same text."""
        return answer.written is not None and same_text(answer.written, label)


GENERATION = Generation()


def _both(predictions: Predictions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    assert predictions.texts is not None
    assert predictions.wanted is not None
    return predictions.texts, predictions.wanted


class NextTokens(Objective):
    """Cross-entropy of tokens."""

    __slots__ = ()

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy over tokens."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets.long())
