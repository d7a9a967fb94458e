"""From raw records to canonical rows: the only place that knows the shapes data comes in."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.data.readers import Record, Table
from expertbank.data.spec import Columns, SourceSpec, TaskSpec
from expertbank.errors import DataError
from expertbank.kinds import KINDS
from expertbank.kinds.choices import choices_of
from expertbank.records import Row
from expertbank.texts import filled_text, optional_text, plain_text

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
    if label is None and not columns.flags and not fixed and labelled:
        label = _first(_LABEL, found, {text, pair, *columns.choices})
    wanted: list[tuple[str, str | None]] = [("text", text)]
    if labelled:
        wanted += [("label", name) for name in columns.flags or (label,)]
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
    return Columns(text, pair, columns.choices, label, columns.group, columns.flags)


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
    kind, rules, labelled = KINDS.get(spec.kind), spec.label_rules, columns.label or columns.flags
    raw = None
    if labelled:
        raw = kind.raw_label(values, columns.label, rules, origin)
        if raw is None:
            return None
    text = filled_text(values, columns.text or "text", origin)
    pair = None
    if columns.text_pair:
        pair = optional_text(values, columns.text_pair, origin)
        if pair is not None and source.strip_title and source.strip_title in pair:
            pair = pair.split(source.strip_title, 1)[1]
    choices, keys = choices_of(values, columns.choices, origin)
    label = kind.label(raw, rules, choices, keys, origin) if labelled else None
    group = tuple(
        f"{column}={value}"
        for column in columns.group
        if (value := plain_text(values.get(column), origin, column))
    )
    return Row(text, pair, choices, label, group, origin)
