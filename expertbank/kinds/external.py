"""A prompt that an adapter of another program answers, such as one of an engine that serves many.

Nothing is trained and nothing answered here: what is kept of the rows tells the router which texts
are for that adapter. Its name there is the only label of the task.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from expertbank.errors import DataError, InputError
from expertbank.evaluation.outcome import Bools, Outcome, Sent
from expertbank.evaluation.predictions import Floats, Predictions
from expertbank.kinds.answer import Answer
from expertbank.kinds.kind import Kind
from expertbank.kinds.rules import LabelRules
from expertbank.records import Row, Target
from expertbank.texts import fits_a_header

if TYPE_CHECKING:
    from torch import Tensor


class External(Kind):
    """One text, and no label."""

    name = "external"
    shapes = frozenset({"single"})
    misshapen = (
        "an adapter elsewhere is asked by one text, and the row brings more; bring the whole "
        "prompt in one column, named with --text-column, for a task that is not in the catalog"
    )
    elsewhere = True
    names_labels = False
    label_word = "adapter"

    def labels(
        self, train: Sequence[Row], validation: Sequence[Row], rules: LabelRules, where: str
    ) -> tuple[str, ...]:
        """The adapter's name.

        Raises:
            InputError: none is given, several are, or one that no request could carry.
            DataError: a row of another shape.
        """
        for row in (*train, *validation):
            if row.shape not in self.shapes:
                raise DataError(f"{row.origin or 'row'}: {self.misshapen}")
        if len(rules.labels) != 1:
            raise InputError(
                "a task that is answered elsewhere needs the one name that its adapter has there: "
                f"--external NAME, or labels: [NAME] in a task file; got {list(rules.labels)}"
            )
        return (adapter_name(rules.labels[0]),)

    def counted(self, row: Row) -> Collection[str]:
        """Nothing: rows have no label."""
        return ()

    def majority(self, rows: Sequence[Row]) -> None:
        """No answer is known, so none repeats."""
        return

    def target(self, row: Row, places: Mapping[str, int]) -> Target | None:
        """The same for every row: there is nothing to compare with."""
        return 0.0

    def outputs(self, labels: Sequence[str]) -> int:
        """No head."""
        return 0

    def objective(
        self, labels: Sequence[str], targets: Sequence[Target], *, balance: bool = False
    ) -> NoReturn:
        """Nothing is trained.

        Raises:
            InputError: always.
        """
        raise InputError("a task that is answered elsewhere is not trained here")

    def outcome(self, predictions: Predictions) -> Outcome:
        """Whether rows are right is seen elsewhere; whether they were sent there, here."""
        return Sent(len(predictions.row_digests))

    def metrics(self, predictions: Predictions) -> dict[str, Any]:
        """How many rows there are."""
        return {"accuracy": None, "n": len(predictions.row_digests), "majority": None}

    def same(self, before: Floats, now: Floats, thresholds: Floats | None) -> tuple[Bools, Bools]:
        """The name is the expert's own, and every answer is it."""
        return np.ones(len(before), dtype=bool), np.zeros(len(before), dtype=bool)

    def answer(
        self, logits: Tensor, row: Row, labels: tuple[str, ...], thresholds: Tensor | None
    ) -> Answer:
        """Which adapter is meant, and no label."""
        return Answer(None, {}, f"(adapter {labels[0]})")

    def sureness(self, logits: Tensor) -> Tensor:
        """Infinite: there was nothing to choose, so it has no say."""
        return logits.new_full((len(logits),), float("inf"))


EXTERNAL = External()


def adapter_name(name: str) -> str:
    """``name`` if an adapter elsewhere can be called so.

    Raises:
        InputError: it cannot stand in a request and in the header of an answer.
    """
    if not fits_a_header(name):
        raise InputError(
            f"no adapter can be called {name!r}: a name is 1 to 256 printable ASCII characters, "
            "without blanks around it"
        )
    return name
