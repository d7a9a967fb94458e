"""From raw records to canonical rows: the only place that knows the shapes data comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from expertbank.data.formats import Record, Table
from expertbank.data.spec import Columns, SourceSpec, TaskSpec
from expertbank.errors import DataError
from expertbank.kinds import KINDS, LabelRules, RawLabel
from expertbank.kinds.choices import choices_of
from expertbank.records import Row
from expertbank.texts import filled_text, optional_text, plain_text
from expertbank.wording import few

# Names in order of preference.
# fmt: off
_TEXT = (
    "text", "question", "premise", "sentence1", "question1", "text1", "sentence_a", "sentence",
    "query", "review", "utterance", "content", "document", "message", "body", "title", "passage",
    "context", "prompt",
)
PAIR_NAMES = (
    "text_pair", "sentence2", "question2", "text2", "sentence_b", "passage", "hypothesis",
    "context", "sentence", "document",
)
_LABEL = (
    "label", "answer", "target", "class", "labels", "category", "intent", "completion",
)
# fmt: on
_BY_OPTION = frozenset({"text", "pair", "choices", "label"})
"""Columns that the command line can name."""
_LISTED = 30
NO_CLASS = -1
"""What ``datasets`` writes for a row without a class."""


def resolve_columns(
    columns: Columns,
    table: Table,
    *,
    labelled: bool = True,
    choices: bool = False,
    fixed: bool = False,
) -> Columns:
    """Fill in columns that were not named, and check that all are in the table.

    A pair column is guessed only together with the text column: a user who names the text and
    no pair has a task without pairs.

    Args:
        columns: what is known.
        table: where they must be.
        labelled: whether a label column is needed.
        choices: whether columns of choices are needed.
        fixed: whether to check only.

    Raises:
        DataError: a column is missing or none has a known name, which lists the columns found; or
            one is named twice.
    """
    found = table.columns
    columns = columns.renamed(lambda name: name if name in found else name.strip())
    text, pair, label = columns.text, columns.text_pair, columns.label
    if text is None and not fixed:
        text = _first(_TEXT, table, "text", {pair, label})
        if pair is None and not columns.choices:
            pair = _first(PAIR_NAMES, table, "pair", {text, label})
    if label is None and not columns.flags and not fixed and labelled:
        label = _first(_LABEL, table, "label", {text, pair, *columns.choices})
    wanted: list[tuple[str, str | None]] = [("text", text)]
    if labelled:
        wanted += [("label", name) for name in columns.flags or (label,)]
    wanted += [("pair", pair)] if pair else []
    wanted += [("choices", name) for name in columns.choices or ((None,) if choices else ())]
    wanted += [("group", name) for name in columns.group]
    roles: dict[str, str] = {}
    for role, name in wanted:
        if name is None or name not in found:
            raise missing_column(role, name, table)
        if role == "group":  # binds rows, and may be read besides
            continue
        if name in roles:
            raise DataError(
                f"{table.name}:1: column {name!r} is named for the {roles[name]} and again for "
                f"the {role}; name another with --{role}-column"
            )
        roles[name] = role
    return Columns(
        text, pair, columns.choices, label, columns.group, columns.flags, columns.separator
    )


def leaves_choices(columns: Columns, table: Table) -> bool:
    """Whether the table has choices by name that are read as nothing."""
    read = {columns.text, columns.text_pair, columns.label, *columns.flags, *columns.group}
    return "choices" in table.columns and not columns.choices and "choices" not in read


class NoColumnError(DataError):
    """A column that rows of the task's kind need is not there."""


def missing_column(role: str, name: str | None, table: Table) -> NoColumnError:
    """That a column is not there, with what may help to find it."""
    found = [repr(one) if one != one.strip() else one for one in table.columns]
    what = f"no column {name!r}" if name else "no column with a known name"
    hint = f"; name it with --{role}-column" if role in _BY_OPTION else ""
    near = get_close_matches((name or "").casefold(), [one.casefold() for one in table.columns], 1)
    close = next((one for one in table.columns if near and one.casefold() == near[0]), None)
    if close is not None:
        hint = f"; did you mean {close!r}?{hint}"
    shown = few(found, _LISTED)
    read = table.facts.in_words()
    if table.facts.separator == "," and len(found) == 1:
        hint += "; if it is several, name what parts their cells with --separator"
    return NoColumnError(
        f"{table.name}:1: {what} for the {role}; columns found: {shown or 'none'}"
        + (f" ({read}; --separator and --encoding decide)" if read else "")
        + hint
    )


def _first(names: Sequence[str], table: Table, role: str, taken: set[str | None]) -> str | None:
    """The column that comes first in ``names`` and is not taken; case matters least.

    Raises:
        DataError: two columns have the name, in other case, and none as it is known.
    """
    free = [column for column in table.columns if column not in taken]
    for name in names:
        alike = [column for column in free if column.casefold() == name]
        if name in alike or len(alike) == 1:
            return name if name in alike else alike[0]
        if alike:
            raise DataError(
                f"{table.name}:1: columns {' and '.join(map(repr, alike))} could both be the "
                f"{role}; name one with --{role}-column"
            )
    return None


def wanted_of(columns: Columns) -> set[str]:
    """Names of all columns that rows are made of."""
    named = (columns.text, columns.text_pair, columns.label)
    found = {*columns.choices, *columns.group, *columns.flags}
    return found | {name for name in named if name is not None}


@dataclass(frozen=True, slots=True)
class RowMaker:
    """Makes canonical rows of raw records of one task.

    Attributes:
        spec: the task.
        source: peculiarities of the source.
        columns: which column holds what.
        class_names: what numbers stand for, by column.
    """

    spec: TaskSpec
    source: SourceSpec
    columns: Columns
    class_names: Mapping[str, tuple[str, ...]]
    _rules: LabelRules = field(init=False, repr=False)
    _names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rules = self.spec.label_rules
        names = self.class_names.get(self.columns.label or "", ())
        object.__setattr__(self, "_rules", rules)
        object.__setattr__(self, "_names", names if _goes_by_name(names, rules) else ())

    def row(self, record: Record) -> Row | None:
        """The row of a record; ``None`` for one to be left out.

        Raises:
            DataError: it is unusable; the message starts with file and line.
        """
        values, origin, columns = record.values, record.origin, self.columns
        kind, rules = KINDS.get(self.spec.kind), self._rules
        raw, label_column = None, columns.label
        labelled = (columns.label or columns.flags) and not kind.elsewhere
        if labelled:
            if label_column and label_column in self.class_names and kind.names_labels:
                values = {**values, label_column: self._named(values.get(label_column))}
            raw = kind.raw_label(values, label_column, rules, origin)
            if raw is None:
                return None
        text = filled_text(values, columns.text or "text", origin)
        pair = None
        if columns.text_pair:
            pair = optional_text(values, columns.text_pair, origin)
            if pair is not None and self.source.strip_title and self.source.strip_title in pair:
                pair = pair.split(self.source.strip_title, 1)[1]
        choices, keys = choices_of(values, columns.choices, origin)
        told = RawLabel(raw, rules, choices, keys, origin)
        label = kind.label(told) if labelled else None
        group = tuple(
            f"{column}={value}"
            for column in columns.group
            if (value := plain_text(values.get(column), origin, column))
        )
        return Row(text, pair, choices, label, group, origin)

    def _named(self, value: Any) -> Any:
        """A class number by its name, unless the task knows the number as it stands."""
        if isinstance(value, (list, tuple)):
            return [self._named(one) for one in value]
        names, rules = self._names, self._rules
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if str(value) in rules.names or str(value) in rules.drop:
            return value
        if value == NO_CLASS:
            return None
        return names[value] if type(value) is int and 0 <= value < len(names) else value


def _goes_by_name(names: Sequence[str], rules: LabelRules) -> bool:
    """Whether numbers of a column stand for their names: unless none is a label of the task.

    One answer for all rows, so that a class that the task does not know is refused by its name.
    """
    known = set(rules.known)
    return not known or any(rules.names.get(name, name) in known for name in names)
