"""From raw records to canonical rows: the only place that knows the shapes data comes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from expertbank.errors import DataError
from expertbank.kinds import KINDS
from expertbank.kinds.choices import choices_of
from expertbank.records import Row
from expertbank.tasks.lines import decode
from expertbank.tasks.readers import Record, Table, parse_object
from expertbank.tasks.spec import Columns, SourceSpec, TaskSpec
from expertbank.texts import plain_text

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
    text = _filled(values, columns.text or "text", origin)
    pair = None
    if columns.text_pair:
        # CSV cannot tell an empty cell from a missing value, so both mean: no pair.
        pair = plain_text(values.get(columns.text_pair), origin, columns.text_pair) or None
        if pair is not None and not pair.strip():
            pair = None
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


def _filled(values: Mapping[str, Any], column: str, origin: str) -> str:
    text = plain_text(values.get(column), origin, column)
    if text is None or not text.strip():
        raise DataError(
            f"{origin}: the text (column {column!r}) is empty; fill it or remove the row"
        )
    return text


def parse_prediction_rows(lines: Iterable[str | bytes], file: str) -> Iterator[Row]:
    """Rows to predict, one JSON object a line: ``{"text", "text_pair"?, "choices"?}``.

    Other keys are ignored, unless one looks like a slip for these three. Empty lines are skipped.

    Args:
        lines: lines with or without their ends; bytes are read as UTF-8.
        file: what to call their origin in messages.

    Raises:
        DataError: a line is malformed.
    """
    for row in prediction_rows(lines, file):
        if isinstance(row, DataError):
            raise row
        yield row


def prediction_rows(lines: Iterable[str | bytes], file: str) -> Iterator[Row | DataError]:
    """``parse_prediction_rows``, with what is wrong in the place of a row that is malformed."""
    for number, raw in enumerate(lines, start=1):
        try:
            row = _prediction_row(raw, file, number)
        except DataError as error:
            yield error
            continue
        if row is not None:
            yield row


def _prediction_row(raw: str | bytes, file: str, number: int) -> Row | None:
    """The row of one line, ``None`` for an empty one."""
    known = ("text", "text_pair", "choices")
    origin = f"{file}:{number}"
    line = decode(raw, file, line=number) if isinstance(raw, bytes) else raw
    line = line.removeprefix("\ufeff") if number == 1 else line
    if not line.strip():
        return None
    values = parse_object(line, origin)
    for key in values:
        near = [] if key in known else get_close_matches(key.lower(), known, n=1, cutoff=0.85)
        if near and near[0] not in values:
            raise DataError(f"{origin}: unknown key {key!r}; did you mean {near[0]!r}?")
    if "text" not in values:
        raise DataError(f"{origin}: no key 'text'; keys found: {', '.join(values) or 'none'}")
    columns = ("choices",) if values.get("choices") is not None else ()
    choices, _ = choices_of(values, columns, origin)
    pair = plain_text(values.get("text_pair"), origin, "text_pair")
    return Row(
        text=_filled(values, "text", origin),
        text_pair=pair if pair and pair.strip() else None,
        choices=choices,
        origin=origin,
    )
