"""What rows of a kind of task bring, and what their labels look like: all that reading asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from expertbank.errors import DataError
from expertbank.kinds.labels import require_known, shown_label, sorted_labels
from expertbank.kinds.rules import LabelRules, RawLabel
from expertbank.records import ROW_SHAPES, Row, RowShape
from expertbank.texts import is_blank, plain_text


class Labelled:
    """A kind of task as its data has it. What is not given is that of one label of the task a row.

    Attributes:
        name: what tasks, files and the database call it: the name it is added under.
        shapes: what its rows bring; a row of another shape is not sent to its experts. How a row is
            encoded depends on its shape alone, since the trunk runs before an expert is chosen.
        misshapen: what to say of a row of another shape.
        names_labels: whether its labels have names that belong to the task.
        label_word: what one of them is called in a table.
    """

    name: ClassVar[str]
    shapes: ClassVar[frozenset[RowShape]] = frozenset({"single", "pair"})
    misshapen: ClassVar[str] = "the row brings choices, which only multiple-choice tasks read"
    names_labels: ClassVar[bool] = True
    label_word: ClassVar[str] = "label"

    def complaint(self, name: str) -> str | None:
        """Why this cannot be added under ``name``; ``None`` if it can."""
        own = getattr(self, "name", None)
        if own != name:
            return f"calls itself {own!r}: its `name` must be what it is added under"
        if not self.shapes or not self.shapes <= set(ROW_SHAPES):
            return f"reads rows of shapes {set(self.shapes)}: there are {', '.join(ROW_SHAPES)}"
        return None

    def claims(self, *, choices: bool, rules: LabelRules) -> bool:
        """Whether naming such columns can only mean this kind."""
        return False

    def refusal(self, *, choices: bool, rules: LabelRules) -> str | None:
        """Why no row of such columns can be read; ``None`` if it can.

        One column for each label, or a separator of labels, is for kinds that claim it.
        """
        if choices and "choices" not in self.shapes:
            return f"rows of kind {self.name} bring no choices"
        if rules.flags and not self.claims(choices=False, rules=LabelRules(flags=rules.flags)):
            return f"kind {self.name} has one label column, not several: {', '.join(rules.flags)}"
        parted = LabelRules(separator=rules.separator)
        if rules.separator and not self.claims(choices=False, rules=parted):
            return f"rows of kind {self.name} hold no labels that {rules.separator!r} parts"
        return None

    def raw_label(
        self, values: Mapping[str, Any], column: str | None, rules: LabelRules, origin: str
    ) -> Any:
        """What a record says of its label; ``None`` for a row to be left out.

        Raises:
            DataError: it says nothing, or something that is no label.
        """
        value = None if column is None else values.get(column)
        if isinstance(value, (list, tuple)):
            hint = (
                "for several labels a row use --kind multi_label"
                if self.names_labels
                else f"keep one {self.label_word}, or make a row of each"
            )
            raise DataError(
                f"{origin}: column {column!r} holds a list of {self.label_word}s, expected one; "
                f"{hint}",
                f"several {self.label_word}s",
            )
        raw = plain_text(value, origin, column or "label")
        if raw is not None and is_blank(raw):
            raw = None
        if raw in rules.drop:
            return None
        if raw is None:
            raise DataError(
                f"{origin}: no label: column {column!r} is empty; label or remove the row",
                "no label",
            )
        return raw

    def label(self, raw: RawLabel) -> str:
        """The label as rows carry it, in one text form.

        Raises:
            DataError: it is none of the task's labels.
        """
        return shown_label(raw.value, raw.rules, raw.origin)

    def labels(
        self, train: Sequence[Row], validation: Sequence[Row], rules: LabelRules, where: str
    ) -> tuple[str, ...]:
        """Label names in their fixed order; empty where there are none.

        The task's own, else those that its names lead to and then, in natural order, those of the
        training rows.

        Raises:
            DataError: too few to train on, or a validation label that training never shows.
        """
        if not self.names_labels:
            return ()
        self.require_rows(train, where)
        if rules.labels:
            return rules.labels
        seen = {label for row in train for label in self.counted(row)}
        named = tuple(dict.fromkeys(rules.names.values()))
        labels = rules.known or (*named, *sorted_labels(seen.difference(named)))
        for row in validation:
            require_known(row, self.counted(row), labels)
        return labels

    def require_rows(self, rows: Sequence[Row], where: str) -> None:
        """Refuse rows that no expert of this kind can be trained on, before they are split.

        Raises:
            DataError: what is wrong with them.
        """
        if self.names_labels and len({row.label for row in rows}) < 2:
            raise DataError(
                f"{where}:1: all training rows have the label {rows[0].label!r}; "
                "there is nothing to tell apart"
            )

    def unlike(self, rows: Sequence[Row]) -> Iterable[DataError]:
        """What is wrong with rows of one source, of all its splits, that do not fit the others."""
        return ()

    def classes(self, row: Row) -> Iterable[str | None]:
        """The classes of a row of which each must keep a training row when rows are split."""
        return self.counted(row) if self.names_labels else (None,)

    def counted(self, row: Row) -> Collection[str]:
        """The labels of a row, for counts."""
        return () if row.label is None else (row.label,)

    def majority(self, rows: Sequence[Row]) -> float | None:
        """Share of the most frequent answer; ``None`` where no answer repeats."""
        return Counter(row.label for row in rows).most_common(1)[0][1] / len(rows)

    def values(self, rows: Sequence[Row]) -> dict[str, float]:
        """``least``, ``mean`` and ``most`` of labels that are numbers, else nothing."""
        return {}

    def remarks(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """What is odd about labels and yet no reason to refuse them, as sentences."""
        return ()
