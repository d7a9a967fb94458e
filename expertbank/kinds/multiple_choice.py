"""One of a row's own choices: a score each, cross-entropy over the row's choices.

A row's label is the zero-based position of the right choice, as text, whatever the data calls it.
Choices of one text are one choice: their probabilities add up, and answering it is right whichever
of them the label names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from expertbank.errors import DataError
from expertbank.evaluation.decisions import merged, probabilities
from expertbank.kinds.answer import Answer
from expertbank.kinds.choices import first_places, position_of
from expertbank.kinds.kind import Kind
from expertbank.kinds.objective import Objective
from expertbank.kinds.rules import LabelRules, RawLabel
from expertbank.records import Row, Target

if TYPE_CHECKING:
    from torch import Tensor


class MultipleChoice(Kind):
    """A text, or two, and the choices that the row brings."""

    name = "multiple_choice"
    shapes = frozenset({"choices"})
    misshapen = "a multiple-choice row needs choices"
    scores_sequences = True
    names_labels = False
    label_word = "choice"
    snippet = """
def answer(context, choices):
    scores = torch.stack([outputs(context, choice)[0] for choice in choices])
    found = dict.fromkeys(choices, 0.0)
    for choice, probability in zip(choices, scores.softmax(-1).tolist()):
        found[choice] += probability  # equal choices are one
    return found


print(answer("Where would you keep milk?", ["in a drawer", "in the fridge"]))
"""

    def claims(self, *, choices: bool, rules: LabelRules) -> bool:
        """Only these rows bring choices."""
        return choices

    def label(self, raw: RawLabel) -> str:
        """The position of the choice that ``raw`` names."""
        return position_of(raw)

    def labels(
        self, train: Sequence[Row], validation: Sequence[Row], rules: LabelRules, where: str
    ) -> tuple[str, ...]:
        """Positions."""
        return tuple(str(index) for index in range(max(len(row.choices) for row in train)))

    def unlike(self, rows: Sequence[Row]) -> Iterable[DataError]:
        """Rows with another number of choices than the first."""
        for row in rows:
            first = rows[0]
            if len(row.choices) != len(first.choices):
                yield DataError(
                    f"{row.origin}: {len(row.choices)} choices where {first.origin} has "
                    f"{len(first.choices)}; every row of a task needs the same number: fill up or "
                    "remove those that differ",
                    "number of choices",
                )

    def remarks(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """Positions that seem to count from 1, and choices that are the same text."""
        rows = list(rows)
        found = []
        counts = Counter(row.label for row in rows if row.label is not None)
        if counts and "0" not in counts:
            found.append(
                "the first choice is never the right one; positions count from 0: if the data "
                'counts from 1, list labels: ["1", "2", …] in a task file'
            )
        repeated = sum(len(set(row.choices)) < len(row.choices) for row in rows)
        if repeated:
            found.append(
                f"{repeated} of {len(rows)} rows have a choice twice; equal choices count as one"
            )
        return tuple(found)

    def truth(self, row: Row) -> str:
        """The position of the first choice that has the right one's text."""
        label = row.label or ""
        place = int(label) if label.isdecimal() else len(row.choices)
        return str(row.choices.index(row.choices[place])) if place < len(row.choices) else label

    def first_places(self, row: Row) -> tuple[int, ...]:
        """Choices of the same text are one."""
        return first_places(row.choices)

    def outputs(self, labels: Sequence[str]) -> int:
        """The score of a choice."""
        return 1

    def objective(
        self, labels: Sequence[str], targets: Sequence[Target], *, balance: bool = False
    ) -> Choices:
        """Cross-entropy over each row's choices; positions are not balanced."""
        return Choices()

    def answer(
        self, logits: Tensor, row: Row, labels: tuple[str, ...], thresholds: Tensor | None
    ) -> Answer:
        """The most probable choice; equal choices are one."""
        own = merged(logits[: len(row.choices)].cpu().numpy(), first_places(row.choices))
        scores: dict[str, float] = {}
        for choice, score in zip(row.choices, probabilities(own).tolist(), strict=True):
            scores.setdefault(choice, score)  # the first of equal ones has it all
        answer = Answer.of_scores(scores)
        return replace(answer, choice=row.choices.index(str(answer.label)))

    def is_right(self, label: str, answer: Answer) -> bool:
        """The same position."""
        return str(answer.choice) == label


MULTIPLE_CHOICE = MultipleChoice()


@dataclass(frozen=True, slots=True)
class Choices(Objective):
    """Cross-entropy over a row's choices."""

    def logits(self, outputs: Tensor, row_of: Tensor) -> Tensor:
        """One score from each sequence of a row."""
        from expertbank.kinds.sequences import logits_by_row

        return logits_by_row(outputs, row_of, row_of >= 0)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits, targets.long())

    def score(self, logits: Tensor, targets: Tensor) -> float:
        """Share of rows that are right."""
        return float((logits.argmax(1) == targets.long()).cpu().double().mean())

    def start(self, features: Tensor, row_of: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What tells right choices from the others of their row."""
        from expertbank.kinds.probe import probe_head

        # The softmax over a row's choices does not see what they share: take it out first.
        counts = row_of.bincount()
        total = features.new_zeros(len(counts), features.shape[1]).index_add_(0, row_of, features)
        own = features - (total / counts.unsqueeze(1))[row_of]
        first = counts.cumsum(0) - counts
        right = row_of.new_zeros(len(features))
        right[first + targets.long()] = 1
        weight, _ = probe_head(own, right, 2)
        return weight[1:] - weight[:1], weight.new_zeros(1)
