"""Answers to several rows: a list that notebooks show and that goes on as a frame or a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expertbank.errors import InputError
from expertbank.reports import notebook
from expertbank.reports.figures import DASH, share
from expertbank.wording import count
from expertbank.workflows.answering.prediction import Prediction

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("row", "task", "label", "probability", "routed with", "unknown")


class Answers(list[Prediction]):
    """Predictions in the order of their rows: what ``Bank.predict`` gives, and ``Answers(stream)``.

    It is a list in every other way.
    """

    def to_pandas(self) -> Any:
        """A pandas DataFrame: a line an answer, with the columns of ``predict --json``.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            import pandas as pd  # type: ignore[import-untyped]
        except ImportError:
            raise InputError("pandas is not installed: pip install pandas") from None
        return pd.DataFrame([answer.to_dict() for answer in self])

    def to_dataset(self) -> Dataset:
        """A data set of Hugging Face ``datasets`` with the same columns.

        What differs in its keys from task to task, such as ``scores``, is JSON text there.
        """
        import json

        from datasets import Dataset

        plain = [
            {
                name: json.dumps(value) if isinstance(value, dict | list) else value
                for name, value in answer.to_dict().items()
            }
            for answer in self
        ]
        names = list(dict.fromkeys(name for one in plain for name in one))
        return Dataset.from_dict({name: [one.get(name) for one in plain] for name in names})

    def _repr_html_(self) -> str:
        return notebook.table(count(len(self), "answer"), COLUMNS, [cells(one) for one in self])


def cells(answer: Prediction) -> tuple[object, ...]:
    """What people are shown of an answer, under ``COLUMNS``."""
    return (
        answer.index,
        answer.task,
        answer.text,
        share(answer.scores.get(answer.label) if isinstance(answer.label, str) else None),
        share(answer.confidence),
        {None: DASH, True: "yes", False: "no"}[answer.unknown],
    )
