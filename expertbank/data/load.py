"""One call from a task spec to clean, split, canonically ordered rows."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expertbank.config import sha256_text
from expertbank.data.catalog import catalog_spec
from expertbank.data.faults import CHECK, LISTS, Faults
from expertbank.data.formats import FileFacts, ReadAs
from expertbank.data.reading import read_measured, read_source
from expertbank.data.remarks import (
    class_remarks,
    contradiction_remarks,
    dropped_remarks,
    left_out_remarks,
)
from expertbank.data.spec import Columns, TaskSpec
from expertbank.data.splits import split, take, take_of_each, without_duplicates, without_leaks
from expertbank.data.unread import choices_remarks
from expertbank.errors import DataError, InputError, NotFoundError
from expertbank.kinds import EXTERNAL_KIND, KINDS
from expertbank.kinds.labels import require_known
from expertbank.records import ProgressCallback, ProgressEvent, Row, no_progress

if TYPE_CHECKING:
    from expertbank.kinds.kind import Kind


@dataclass(frozen=True, slots=True)
class TaskData:
    """The rows of one task, ready to encode.

    Attributes:
        spec: the task with all columns and labels known; store this one.
        columns: its columns, by the names that the source read has for them.
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
        files: how each file was read.
        unread: columns that rows are not made of, without ids and the like; none of a task that
            names its own sources.
    """

    spec: TaskSpec
    columns: Columns
    labels: tuple[str, ...]
    train: tuple[Row, ...]
    validation: tuple[Row, ...]
    source: str
    revision: str | None
    counts: Mapping[str, int]
    digests: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    files: tuple[FileFacts, ...] = ()
    unread: tuple[str, ...] = ()


def task_spec(
    name: str,
    *,
    text_column: str | None = None,
    pair_column: str | None = None,
    choices_column: str | Sequence[str] | None = None,
    label_column: str | Sequence[str] | None = None,
    label_separator: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    external: str | None = None,
) -> TaskSpec:
    """The spec of a task by name: the catalog's, or a plain one for the user's own data.

    Columns that are named here win over the catalog's. A task of the user's own gets the columns
    that are named, and guesses for the others when its rows are read.

    Args:
        name: the task.
        text_column: column of the text.
        pair_column: column of the second text.
        choices_column: one column that holds a list, or one column for each choice.
        label_column: column of the label, or one column of 0 and 1 for each label.
        label_separator: what parts several labels in one column.
        separator: what parts the cells of a text file, where the file itself does not tell.
        encoding: of text files that are not UTF-8.
        external: what the adapter of another program that answers the task is called there; its
            rows have no label.

    Raises:
        InputError: ``name`` is not a legal task name, or such columns cannot be.
    """
    try:
        spec = catalog_spec(name)
    except NotFoundError:
        spec = TaskSpec(name)
    choices, labels = (
        (names,) if isinstance(names, str) else names or ()
        for names in (choices_column, label_column)
    )
    named = Columns.named(text_column, pair_column, choices, labels, label_separator)
    spec = spec.read_with(named, ReadAs(separator, encoding))
    return spec if external is None else spec.answered_by(external)


def all_listed(spec: TaskSpec, source: str | None) -> str:
    """What to type to see every bad row.

    A task that no options make is from a task file, or its labels from elsewhere, such as an
    adapter that was imported; nobody here knows which.
    """
    plain = task_spec(spec.name)
    usual = _options(plain)
    own = {key: value for key, value in _options(spec).items() if value and value != usual[key]}
    elsewhere = next(iter(spec.labels), None) if spec.kind == EXTERNAL_KIND else None
    try:
        made = task_spec(spec.name, **own, external=elsewhere)
    except InputError:
        made = plain
    if replace(made, kind=spec.kind, writing=spec.writing) != spec:
        how = "a task file that has these labels" if spec.labels else "the same options"
        return f"{CHECK}, with {how}, {LISTS}"
    words = [] if source is None else [source]
    words += ["--task", spec.name]
    words += [] if elsewhere is None else ["--external", elsewhere]
    words += ["--kind", spec.kind] if made.kind != spec.kind else []
    for key, value in own.items():
        for one in (value,) if isinstance(value, str) else value:
            words += [f"--{key.replace('_', '-')}", one]
    return f"{CHECK} {shlex.join(words)} {LISTS}"


def _options(spec: TaskSpec) -> dict[str, Any]:
    """What would be given to ``task_spec`` for the columns and files of a task."""
    columns = spec.columns
    return {
        "text_column": columns.text,
        "pair_column": columns.text_pair,
        "choices_column": columns.choices,
        "label_column": columns.flags or columns.label,
        "label_separator": columns.separator,
        "separator": spec.read_as.separator,
        "encoding": spec.read_as.encoding,
    }


def load_task(
    spec: TaskSpec,
    source: str | None = None,
    *,
    limit: int | None = None,
    eval_limit: int | None = None,
    seed: int = 0,
    faults: Faults | None = None,
    progress: ProgressCallback = no_progress,
) -> TaskData:
    """Read a task's rows, all or none.

    Unlabelled rows the spec allows for and exact duplicates are dropped; rows of train whose
    input also stands in validation are dropped too. Splits that the source names are kept as
    they are; otherwise the task's split rule holds out whole groups of rows.

    Args:
        spec: the task.
        source: source reference named by the user; ``None`` for the task's own sources.
        limit: most training rows to use, ``None`` for all; every class keeps one if it can.
        eval_limit: most validation rows to use; which ones depends on the task's split seed,
            so versions of an expert stay comparable.
        seed: training seed; decides which training rows a limit leaves, and their order.
        faults: takes bad rows down, and the others are used; without it bad rows are refused.
        progress: told as files are read.

    Raises:
        DataError: rows or a file are unusable; the message starts with ``file:line`` and has a
            line for each kind of fault.
        InputError: the source reference is malformed or does not exist.
        SourceUnavailableError: no source could be reached.
    """
    strict = faults is None
    faults = Faults() if faults is None else faults
    asked = spec
    # What is kept of the task must read the same rows from any other folder.
    spec = spec.within(Path.cwd())
    read = read_source(spec, source, faults, progress)
    if strict and faults:
        faults.refuse(all_listed(asked, source))
    where = read.where
    progress(ProgressEvent("looking for duplicates", 0, len(read.train) + len(read.validation)))
    counts = {"read": len(read.train) + len(read.validation)}
    labelled = [[row for row in part if row is not None] for part in (read.train, read.validation)]
    counts["dropped_unlabelled"] = counts["read"] - sum(map(len, labelled))
    kind = KINDS.get(spec.kind)
    warnings = [*read.warnings, *kind.remarks(chain(*labelled))]
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
        kept, held = split(unique[0], rule.share, rule.seed, f"{where}:1", classes=kind.classes)
    counts["leaked"] = sum(map(len, unique)) - len(kept) - len(held)
    if not kept:
        raise DataError(f"{where}:1: every training row also stands in validation")
    labels = kind.labels(kept, (), replace(spec, columns=read.columns).label_rules, where)
    if kind.names_labels:
        unknown = Faults()
        held = _known(held, labels, kind, unknown)
        if strict and unknown:
            unknown.refuse(all_listed(asked, source))
        faults.take(unknown)
        counts["read"] -= unknown.rows
        if not held:
            raise DataError(f"{where}:1: no validation rows with a label of training")
    final = {
        "train": take_of_each(kept, limit, seed, kind.classes),
        "validation": take(held, eval_limit, spec.split.seed),
    }
    counts["over_limit"] = len(kept) + len(held) - sum(map(len, final.values()))
    counts |= {part: len(rows) for part, rows in final.items()}
    missed = []
    if kind.names_labels and not read.found.choices:
        missed = choices_remarks(read.unread, read.found, labels)
    # Where choices are not read, nothing is wrong with texts of several labels.
    warnings += missed or contradiction_remarks(chain(*labelled), kind)
    warnings += left_out_remarks(counts) + dropped_remarks(counts, spec.drop_labels)
    if kind.names_labels:
        warnings += class_remarks(labels, kind, final["train"], final["validation"])
    known = replace(spec, columns=read.columns)
    return TaskData(
        spec=replace(known, labels=labels) if kind.names_labels else known,
        columns=read.found,
        labels=labels,
        train=tuple(final["train"]),
        validation=tuple(final["validation"]),
        source=read.source,
        revision=read.revision,
        counts=counts,
        digests={part: rows_digest(rows) for part, rows in final.items()},
        warnings=tuple(warnings),
        files=tuple(read.files),
        unread=read.unread,
    )


def _known(rows: Sequence[Row], labels: Collection[str], kind: Kind, faults: Faults) -> list[Row]:
    """The rows whose labels are all among ``labels``; what is wrong with others is noted."""
    found = []
    for row in rows:
        try:
            require_known(row, kind.counted(row), labels)
        except DataError as error:
            faults.note(error.kept())
        else:
            found.append(row)
    return found


def read_rows(
    spec: TaskSpec,
    source: str | None = None,
    *,
    faults: Faults | None = None,
    remarks: list[str] | None = None,
    progress: ProgressCallback = no_progress,
    to_measure: bool = False,
) -> list[Row]:
    """All labelled rows of a source as they are, in their own order.

    Nothing is split, and duplicates stay.

    Args:
        spec: the task.
        source: source reference; ``None`` for the task's own sources.
        faults: takes bad rows down, which are then left out; without it they are refused.
        remarks: takes what was left out and what is odd about the files.
        progress: told as files are read.
        to_measure: of a source that has rows to train on and others, only the others: those of its
            test split, else those to validate on.

    Raises:
        DataError: rows or a file are unusable, or a label is not among the task's.
        InputError: the source reference is malformed or does not exist.
        SourceUnavailableError: no source could be reached.
    """
    noted = Faults() if faults is None else faults
    read = (read_measured if to_measure else read_source)(spec, source, noted, progress)
    if faults is None:
        noted.refuse(advice="")  # `tasks check` knows a task's labels, and no expert's
    if remarks is not None:
        remarks += read.warnings
    return [row for row in (*read.train, *read.validation) if row is not None]


def find_rows(spec: TaskSpec, source: str | None, digests: Collection[str]) -> dict[str, Row]:
    """Read a source again and pick rows by digest; rows that are gone or bad are simply absent.

    Args:
        spec: the task as it was stored.
        source: the stored reference, or ``None`` for the task's own sources.
        digests: ``Row.digest`` of the rows wanted.

    Raises:
        DataError: a file is malformed.
        InputError: the source no longer exists.
        SourceUnavailableError: it could not be reached, or can be read only once.
    """
    wanted = set(digests)
    found: dict[str, Row] = {}
    for row in read_rows(spec, source, faults=Faults()):
        digest = row.digest
        if digest in wanted:
            found.setdefault(digest, row)
    return found


def rows_digest(rows: Sequence[Row]) -> str:
    """SHA-256 over the sorted digests of rows: the same for any order."""
    return sha256_text("\n".join(sorted(row.digest for row in rows)))
