"""From the tables of a source to canonical rows, bad ones noted: the one reading behind all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from expertbank.data.faults import Faults
from expertbank.data.files import Open, Tables
from expertbank.data.formats import FileFacts, Table
from expertbank.data.remarks import ID_COLUMNS, RepeatedIds
from expertbank.data.rows import (
    NoColumnError,
    RowMaker,
    missing_column,
    resolve_columns,
    wanted_of,
)
from expertbank.data.sources import HELD_OUT, OpenSource, held_out_key, open_source
from expertbank.data.spec import Columns, TaskSpec
from expertbank.data.unread import unread
from expertbank.errors import DataError
from expertbank.kinds import KINDS
from expertbank.records import ProgressCallback, Row


@dataclass(slots=True)
class Read:
    """All rows of a source.

    Attributes:
        columns: the task's, with those that were found.
        found: the same, by the names that the source read has for them.
        train: rows, ``None`` where a label is to be dropped.
        validation: likewise.
        has_validation: whether the source names its validation rows.
        where: what to call the source in messages.
        source: reference that reads the same rows again, from any working folder.
        revision: commit of a Hub data set or version of a package, where known.
        warnings: remarks of the reading.
        files: how each file was read.
        unread: columns that rows are not made of, see ``unread``.
    """

    columns: Columns
    found: Columns
    train: list[Row | None]
    validation: list[Row | None]
    has_validation: bool
    where: str
    source: str
    revision: str | None
    warnings: list[str] = field(default_factory=list)
    files: list[FileFacts] = field(default_factory=list)
    unread: tuple[str, ...] = ()


@dataclass(slots=True)
class _Reading:
    """One pass over the tables of a source; the first one decides on columns."""

    spec: TaskSpec
    opened: OpenSource
    faults: Faults
    asked: Columns
    only_held: bool = False
    columns: Columns | None = None
    unread: tuple[str, ...] = ()
    files: list[FileFacts] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def rows(self, part: Sequence[Open]) -> Iterator[tuple[Row | None, bool]]:
        """Rows of one split, and whether they are held out for validation."""
        ids = RepeatedIds()
        for open_table in part:
            table = open_table()
            self._resolve(table)
            assert self.columns is not None, "the first table resolved them"
            self.files.append(table.facts)
            # A source may have columns of flags, or a separator, that the task does not name.
            spec = replace(self.spec, columns=self.columns)
            maker = RowMaker(spec, self.opened.spec, self.columns, table.class_names)
            wanted = wanted_of(self.columns)
            named = [name for name in table.columns if name.lower() in ID_COLUMNS]
            watched = {name for name in named if named.count(name) == 1}
            key, held_keys = self.opened.tables.held_out or ("", frozenset())
            for found in table.rows(wanted | watched | ({key} if key else set())):
                try:
                    if isinstance(found, DataError):
                        raise found
                    held = bool(key) and held_out_key(found, key) in held_keys
                    if self.only_held and not held:
                        continue
                    row = maker.row(found)
                except DataError as error:
                    self.faults.note(error)
                    continue
                ids.see(found, watched)
                yield row, held
            self.remarks += table.remarks
        self.remarks += ids.remarks()

    def _resolve(self, table: Table) -> None:
        kind = KINDS.get(self.spec.kind)
        needs = {"labelled": not kind.elsewhere, "choices": kind.shapes == {"choices"}}
        key, _ = self.opened.tables.held_out or (None, None)
        try:
            if key is not None and key not in table.columns:
                raise missing_column(HELD_OUT, key, table)
            if self.columns is None:
                self.columns = resolve_columns(self.asked, table, **needs)
                if not self.spec.sources:  # whoever names those knows what is in them
                    self.unread = unread(self.columns, table, key)
            else:
                resolve_columns(self.columns, table, **needs, fixed=True)
        except DataError:
            # Bad rows of JSON may be why a column is missing.
            for found in table.rows(()):
                if isinstance(found, DataError):
                    self.faults.note(found)
            self.faults.refuse()
            raise


def read_source(
    spec: TaskSpec, source: str | None, faults: Faults, progress: ProgressCallback
) -> Read:
    """Read all rows of the source that the user named, or of the task's first that can be had.

    Args:
        spec: the task.
        source: source reference; ``None`` for the task's own sources.
        faults: takes bad rows down; they are left out.
        progress: told as files are read.

    Raises:
        DataError: a file is unusable as a whole.
        InputError: the source reference is malformed or does not exist.
        SourceUnavailableError: no source could be reached.
    """
    return _read(spec, open_source(spec, source, progress), faults)


def read_measured(
    spec: TaskSpec, source: str | None, faults: Faults, progress: ProgressCallback
) -> Read:
    """As ``read_source``, all in ``train``, but no rows to train on where there are others.

    Those of a test split are read if they have labels, which of many data sets are kept back, else
    those to validate on. A remark says which, where there are several.
    """
    opened = open_source(spec, source, progress)
    tables, where, remarks = opened.tables, opened.spec.ref, [*opened.tables.beside]
    if tables.test:
        own = Faults()
        try:
            read = _read(spec, replace(opened, tables=Tables(tables.test)), own)
        except NoColumnError:
            read = None
        if read is not None and _has_labels(read, own):
            faults.take(own)
            return _only(read, "test", where, remarks)
        remarks.append(f"{where}: its test rows have no labels")
    if tables.validation:
        read = _read(spec, replace(opened, tables=Tables(tables.validation)), faults)
        return _only(read, "validation", where, remarks)
    read = _read(spec, opened, faults, only_held=tables.held_out is not None)
    if tables.held_out is None:
        return replace(read, warnings=[*remarks, *read.warnings])
    return _only(replace(read, train=read.validation, validation=[]), "validation", where, remarks)


def _only(read: Read, part: str, where: str, remarks: Sequence[str]) -> Read:
    told = f"{where}: measured on its {part} rows alone; to measure on others, name their file"
    return replace(read, warnings=[*remarks, told, *read.warnings])


def _has_labels(read: Read, faults: Faults) -> bool:
    """Whether a split is labelled; −1 for every row is what GLUE has in place of labels."""
    there = {row.label for row in read.train if row is not None}
    return there != {"-1"} if there else bool(faults.counts.keys() - {"no label"})


def _read(spec: TaskSpec, opened: OpenSource, faults: Faults, *, only_held: bool = False) -> Read:
    tables = opened.tables
    reading = _Reading(spec, opened, faults, opened.spec.columns.over(spec.columns), only_held)
    train: list[Row | None] = []
    validation: list[Row | None] = []
    for row, held in reading.rows(tables.train):
        (validation if held else train).append(row)
    validation += [row for row, _ in reading.rows(tables.validation)]
    columns = reading.columns or spec.columns
    for error in KINDS.get(spec.kind).unlike([row for row in chain(train, validation) if row]):
        faults.note(error)
    return Read(
        # What only this source calls by another name stays with the source, not with the task.
        columns=spec.columns.over(columns),
        found=columns,
        train=train,
        validation=validation,
        has_validation=bool(tables.validation) or tables.held_out is not None,
        where=opened.spec.ref,
        source=opened.ref,
        revision=opened.revision,
        warnings=[*tables.remarks, *reading.remarks],
        files=reading.files,
        unread=reading.unread,
    )
