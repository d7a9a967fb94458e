"""What a task's evaluated rows came to, whatever the task's kind.

There are three sorts: rows that are right or wrong each, whose quality is their share that is
right; rows that are answered by a value, whose quality is a correlation; and rows that are answered
elsewhere, whose quality is the share that the router sends there. A task's kind says
which from the stored predictions; everything after that asks the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.generic]


class Outcome(Protocol):
    """Rows answered by one expert, in a fixed order.

    ``chosen`` is ``[rows]`` whether the router sent a row to that expert: the others are not
    answered by it. Without ``chosen`` the task was given.
    """

    @property
    def metric(self) -> str:
        """What ``quality`` is: ``accuracy``, ``pearson`` or ``routing``."""
        ...

    @property
    def n(self) -> int:
        """Rows."""
        ...

    def correct(self, chosen: Bools | None = None) -> int:
        """Rows that are right; 0 where rows are not right or wrong."""
        ...

    @property
    def averaged(self) -> bool:
        """Whether qualities of several such tasks may be averaged."""
        ...

    @property
    def targets(self) -> npt.NDArray[np.float64] | None:
        """``[rows]`` true values that answers are correlated with; ``None`` without."""
        ...

    def quality(self, chosen: Bools | None = None) -> float | None:
        """The one figure that reports compare."""
        ...

    def rows(self, chosen: Bools) -> Bools | npt.NDArray[np.float64]:
        """``[rows]`` whether each is right, or the value it was answered by."""
        ...


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows that are right or wrong: a row is right only if it went to its task.

    Attributes:
        right: ``[rows]`` whether the expert's answer is right.
    """

    right: Bools
    metric: str = "accuracy"
    averaged: bool = True
    targets: None = None

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.right)

    def correct(self, chosen: Bools | None = None) -> int:
        """Rows that are right."""
        return int((self.right if chosen is None else self.rows(chosen)).sum())

    def quality(self, chosen: Bools | None = None) -> float:
        """Share of rows that are right."""
        return float((self.right if chosen is None else self.rows(chosen)).mean())

    def rows(self, chosen: Bools) -> Bools:
        """``[rows]`` whether each went to its task and is right."""
        return np.asarray(chosen & self.right)


@dataclass(frozen=True, slots=True)
class Correlated:
    """Rows answered by a value; one that went elsewhere counts as the mean answer.

    Attributes:
        answers: ``[rows]`` float32 values answered.
        true: ``[rows]`` float32 true values.
    """

    answers: Numbers
    true: Numbers
    metric: str = "pearson"
    averaged: bool = False

    def correct(self, chosen: Bools | None = None) -> int:
        """No row is right or wrong."""
        return 0

    @property
    def n(self) -> int:
        """Rows."""
        return len(self.true)

    @property
    def targets(self) -> npt.NDArray[np.float64]:
        """``[rows]`` true values."""
        return self.true.astype(np.float64)

    def quality(self, chosen: Bools | None = None) -> float | None:
        """Pearson's correlation of answers and true values."""
        answers: Any = self.answers
        if chosen is not None:
            answers = np.where(chosen, answers, answers.mean())
        return pearson(answers, self.true)

    def rows(self, chosen: Bools) -> npt.NDArray[np.float64]:
        """``[rows]`` values answered."""
        answers = self.answers.astype(np.float64)
        return np.where(chosen, answers, answers.mean())


@dataclass(frozen=True, slots=True)
class Sent:
    """Rows that are answered elsewhere: here is seen only whether they are sent there.

    Attributes:
        n: rows.
    """

    n: int
    metric: str = "routing"
    averaged: bool = False
    targets: None = None

    def correct(self, chosen: Bools | None = None) -> int:
        """Rows that were sent there; with the task given nothing is known."""
        return 0 if chosen is None else int(chosen.sum())

    def quality(self, chosen: Bools | None = None) -> float | None:
        """Share of rows that were sent there; ``None`` with the task given."""
        return None if chosen is None else float(chosen.mean())

    def rows(self, chosen: Bools) -> Bools:
        """``[rows]`` whether each was sent there."""
        return chosen


@dataclass(frozen=True, slots=True)
class Answered:
    """One expert's evaluation rows with the task given (what routing papers call the oracle).

    Attributes:
        outcome: what they came to.
        row_digests: SHA-256 of each row, hexadecimal.
        clusters: ``[rows]`` int32, the same number for rows that belong together; ``None`` where
            rows stand alone.
    """

    outcome: Outcome
    row_digests: tuple[str, ...]
    clusters: npt.NDArray[np.int32] | None = None


def pearson(answers: Numbers, targets: Numbers) -> float | None:
    """Linear correlation; ``None`` where one side is constant, or not all of it is finite."""
    a, b = np.asarray(answers, float), np.asarray(targets, float)
    if not all(len(side) > 1 and np.isfinite(side).all() and np.ptp(side) for side in (a, b)):
        return None
    return float(np.corrcoef(a, b)[0, 1])
