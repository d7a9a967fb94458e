"""One call from a task spec to clean, split, canonically ordered rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from expertbank.config import sha256_text
from expertbank.data.catalog import catalog_spec
from expertbank.data.readers import Table
from expertbank.data.remarks import id_remarks
from expertbank.data.rows import resolve_columns, rows_of
from expertbank.data.sources import OpenSource, open_source
from expertbank.data.spec import Columns, TaskSpec
from expertbank.data.splits import split, take, without_duplicates, without_leaks
from expertbank.errors import DataError, NotFoundError
from expertbank.kinds import KINDS
from expertbank.records import Row


@dataclass(frozen=True, slots=True)
class TaskData:
    """The rows of one task, ready to encode.

    Attributes:
        spec: the task with all columns and labels known; store this one.
        labels: shown label names; a row's target is its label's place here. Empty where labels
            have no names.
        train: training rows in the hash order of the training seed.
        validation: rows to report on, in the hash order of the task's split seed.
        source: reference that reads the same rows again, from any working folder.
        revision: commit of a Hub data set or version of a package, where known.
        counts: ``read`` is the sum of all others: ``dropped_unlabelled``, ``duplicates``,
            ``leaked`` (training rows whose input also stands in validation), ``over_limit``,
            ``train``, ``validation``.
        digests: for ``train`` and ``validation``, SHA-256 over the sorted digests of the rows.
        warnings: what is odd about the data and yet no reason to refuse it, as sentences.
    """

    spec: TaskSpec
    labels: tuple[str, ...]
    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    source: str
    revision: str | None
    counts: Mapping[str, int]
    digests: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def task_spec(
    name: str,
    *,
    text_column: str | None = None,
    pair_column: str | None = None,
    choices_column: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    label_separator: str | None = None,
) -> TaskSpec:
    """The spec of a task by name: the catalog's, or a plain one for the user's own data.

    Columns that are named here win over the catalog's. A task of the user's own gets the columns
    that are named, and guesses for the others when its rows are read.

    Raises:
        InputError: ``name`` is not a legal task name.
    """
    try:
        spec = catalog_spec(name)
    except NotFoundError:
        spec = TaskSpec(name)
    choices = (choices_column,) if isinstance(choices_column, str) else tuple(choices_column or ())
    labels = (label_column,) if isinstance(label_column, str) else tuple(label_column or ())
    return spec.with_columns(
        Columns(
            text_column,
            pair_column,
            choices,
            labels[0] if len(labels) == 1 else None,
            flags=labels if len(labels) > 1 else (),
            separator=label_separator,
        )
    )


def load_task(
    spec: TaskSpec,
    source: str | None = None,
    *,
    limit: int | None = None,
    eval_limit: int | None = None,
    seed: int = 0,
) -> TaskData:
    """Read a task's rows, all or none.

    Unlabelled rows the spec allows for and exact duplicates are dropped; rows of train whose
    input also stands in validation are dropped too. Splits that the source names are kept as
    they are; otherwise the task's split rule holds out whole groups of rows.

    Args:
        spec: the task.
        source: source reference named by the user; ``None`` for the task's own sources.
        limit: most training rows to use, ``None`` for all.
        eval_limit: most validation rows to use; which ones depends on the task's split seed,
            so versions of an expert stay comparable.
        seed: training seed; decides which training rows a limit leaves, and their order.

    Raises:
        DataError: a file or row is unusable; the message starts with ``file:line``.
        InputError: the source reference is malformed or does not exist.
        SourceUnavailableError: no source could be reached.
    """
    read = _read(spec, open_source(spec, source))
    where = read.where
    counts = {"read": len(read.train) + len(read.validation)}
    labelled = [[row for row in part if row is not None] for part in (read.train, read.validation)]
    counts["dropped_unlabelled"] = counts["read"] - sum(map(len, labelled))
    kind = KINDS.get(spec.kind)
    warnings = read.warnings + kind.remarks(chain(*labelled))
    unique = [without_duplicates(part) for part in labelled]
    counts["duplicates"] = sum(map(len, labelled)) - sum(map(len, unique))
    if not unique[0]:
        raise DataError(f"{where}:1: no labelled training rows")
    if read.has_validation:
        if not unique[1]:
            raise DataError(f"{where}:1: no labelled validation rows")
        kept, held = without_leaks(*unique), unique[1]
    else:
        kind.require_rows(unique[0], where)
        rule = spec.split
        kept, held = split(unique[0], rule.share, rule.seed, where, classes=kind.classes)
    counts["leaked"] = sum(map(len, unique)) - len(kept) - len(held)
    if not kept:
        raise DataError(f"{where}:1: every training row also stands in validation")
    labels = kind.labels(kept, held, replace(spec, columns=read.columns).label_rules, where)
    final = {
        "train": take(kept, limit, seed),
        "validation": take(held, eval_limit, spec.split.seed),
    }
    counts["over_limit"] = len(kept) + len(held) - sum(map(len, final.values()))
    counts |= {part: len(rows) for part, rows in final.items()}
    known = replace(spec, columns=read.columns)
    return TaskData(
        spec=replace(known, labels=labels) if kind.names_labels else known,
        labels=labels,
        train=tuple(final["train"]),
        validation=tuple(final["validation"]),
        source=read.source,
        revision=read.revision,
        counts=counts,
        digests={part: rows_digest(rows) for part, rows in final.items()},
        warnings=warnings,
    )


def read_rows(spec: TaskSpec, source: str | None = None) -> list[Row]:
    """All labelled rows of a source as they are, of every split, in their own order.

    For measuring on rows that take no part in training: nothing is split, and duplicates stay.

    Raises:
        DataError: a file or row is unusable, or its label is not among the task's.
        InputError: the source reference is malformed or does not exist.
        SourceUnavailableError: no source could be reached.
    """
    read = _read(spec, open_source(spec, source))
    return [row for row in (*read.train, *read.validation) if row is not None]


def find_rows(spec: TaskSpec, source: str | None, digests: Collection[str]) -> dict[str, Row]:
    """Read a source again and pick rows by digest; rows that are gone are simply absent.

    Args:
        spec: the task as it was stored.
        source: the stored reference, or ``None`` for the task's own sources.
        digests: ``Row.digest`` of the rows wanted.

    Raises:
        DataError: a file is malformed.
        InputError: the source no longer exists.
        SourceUnavailableError: it could not be reached.
    """
    wanted = set(digests)
    found: dict[str, Row] = {}
    for row in read_rows(spec, source):
        digest = row.digest
        if digest in wanted:
            found.setdefault(digest, row)
    return found


def rows_digest(rows: Sequence[Row]) -> str:
    """SHA-256 over the sorted digests of rows: the same for any order."""
    return sha256_text("\n".join(sorted(row.digest for row in rows)))


@dataclass(frozen=True, slots=True)
class _Read:
    """All rows of a source, ``None`` where a label is to be dropped; the raw records are gone."""

    columns: Columns
    train: list[Row | None]
    validation: list[Row | None]
    has_validation: bool
    where: str
    source: str
    revision: str | None
    warnings: tuple[str, ...]


def _read(spec: TaskSpec, opened: OpenSource) -> _Read:
    tables = opened.tables
    asked = opened.spec.columns.over(spec.columns)
    columns = resolve_columns(asked, (tables.train + tables.validation)[0])

    def rows(part: tuple[Table, ...]) -> list[Row | None]:
        found: list[Row | None] = []
        for table in part:
            resolve_columns(columns, table, fixed=True)
            found += rows_of(table, spec, opened.spec, columns)
        return found

    warnings = id_remarks(tables.train) + id_remarks(tables.validation)
    train, validation = rows(tables.train), rows(tables.validation)
    KINDS.get(spec.kind).require_alike([row for row in chain(train, validation) if row])
    return _Read(
        # What only this source calls by another name stays with the source, not with the task.
        columns=spec.columns.over(columns),
        train=train,
        validation=validation,
        has_validation=bool(tables.validation),
        where=opened.spec.ref,
        source=opened.ref,
        revision=opened.revision,
        warnings=warnings,
    )
