"""From raw records to canonical rows: the only place that knows the shapes data comes in."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from expertbank.errors import DataError
from expertbank.records import Row
from expertbank.tasks.choices import choices_of, position_of
from expertbank.tasks.readers import Record, Table
from expertbank.tasks.spec import Columns, SourceSpec, TaskSpec
from expertbank.tasks.texts import filled_text, number_text, optional_text, plain_text

# Names in order of preference.
# fmt: off
_TEXT = (
    "text", "question", "premise", "sentence1", "question1", "text1", "sentence_a", "sentence",
    "query", "review", "utterance", "content", "document", "message", "body", "title", "passage",
    "context",
)
_PAIR = (
    "text_pair", "sentence2", "question2", "text2", "sentence_b", "passage", "hypothesis",
    "context", "sentence", "document",
)
_LABEL = (
    "label", "answer", "target", "class", "labels", "category", "intent",
)
# fmt: on


def resolve_columns(
    columns: Columns, table: Table, *, labelled: bool = True, fixed: bool = False
) -> Columns:
    """Fill in columns that were not named, and check that all are in the table.

    A pair column is guessed only together with the text column: a user who names the text and
    no pair has a task without pairs.

    Args:
        columns: what is known.
        table: where they must be.
        labelled: whether a label column is needed.
        fixed: whether to check only.

    Raises:
        DataError: a column is missing or none has a known name; lists the columns found.
    """
    found = table.columns
    text, pair, label = columns.text, columns.text_pair, columns.label
    if text is None and not fixed:
        text = _first(_TEXT, found, {pair, label})
        if pair is None and not columns.choices:
            pair = _first(_PAIR, found, {text, label})
    if label is None and not fixed and labelled:
        label = _first(_LABEL, found, {text, pair, *columns.choices})
    wanted: list[tuple[str, str | None]] = [("text", text)]
    if labelled:
        wanted.append(("label", label))
    wanted += [("pair", pair)] if pair else []
    wanted += [("choices", name) for name in columns.choices]
    wanted += [("group", name) for name in columns.group]
    for role, name in wanted:
        if name is None or name not in found:
            what = f"no column {name!r}" if name else "no column with a known name"
            hint = "" if role == "group" else f"; name it with --{role}-column"
            raise DataError(
                f"{table.name}:1: {what} for the {role}; "
                f"columns found: {', '.join(found) or 'none'}{hint}"
            )
    return Columns(text, pair, columns.choices, label, columns.group)


def _first(names: Sequence[str], found: Sequence[str], taken: set[str | None]) -> str | None:
    """The column whose lower-case name comes first in ``names`` and is not taken."""
    free = {column.lower(): column for column in found if column not in taken}
    return next((free[name] for name in names if name in free), None)


def rows_of(table: Table, spec: TaskSpec, source: SourceSpec, columns: Columns) -> list[Row | None]:
    """Rows of a table, which is empty afterwards; ``None`` stands for a row to be dropped.

    Raises:
        DataError: the first row that is unusable, by file and line.
    """
    records = table.records
    records.reverse()
    rows: list[Row | None] = []
    while records:
        rows.append(_row(records.pop(), spec, source, columns))
    return rows


def _row(record: Record, spec: TaskSpec, source: SourceSpec, columns: Columns) -> Row | None:
    values, origin = record.values, record.origin
    label = None
    if columns.label is not None:
        label = plain_text(values.get(columns.label), origin, columns.label) or None
        if label in spec.drop_labels:
            return None
        if label is None:
            raise DataError(
                f"{origin}: no label: column {columns.label!r} is empty; label or remove the row"
            )
    text = filled_text(values, columns.text or "text", origin)
    pair = None
    if columns.text_pair:
        pair = optional_text(values, columns.text_pair, origin)
        if pair is not None and source.strip_title and source.strip_title in pair:
            pair = pair.split(source.strip_title, 1)[1]
    choices, keys = choices_of(values, columns.choices, origin)
    if label is not None:
        label = _shown_label(label, spec, choices, keys, origin)
    group = tuple(
        f"{column}={value}"
        for column in columns.group
        if (value := plain_text(values.get(column), origin, column))
    )
    return Row(text, pair, choices, label, group, origin)


def _shown_label(
    raw: str, spec: TaskSpec, choices: tuple[str, ...], keys: tuple[str, ...], origin: str
) -> str:
    """The label as rows carry it: a shown name, the position of the right choice, or a number."""
    if spec.kind == "multiple_choice":
        return position_of(raw, spec.labels, choices, keys, origin)
    if spec.kind == "regression":
        return number_text(raw, origin)
    names = dict(spec.label_names)
    shown = names.get(raw, raw)
    known = spec.labels or tuple(names.values())
    if known and shown not in known:
        near = get_close_matches(shown, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(
            f"{origin}: unknown label {raw!r}; labels are {', '.join(map(repr, known))}{hint}"
        )
    return shown
