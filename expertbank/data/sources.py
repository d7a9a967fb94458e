"""From a task and what the user named to the tables of the first source that can be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from expertbank.data.catalog import catalog_names
from expertbank.data.files import Reader, Tables
from expertbank.data.formats import Record
from expertbank.data.hub import read_hub
from expertbank.data.packages import package_path, package_version
from expertbank.data.refs import SourceRef, parse_source
from expertbank.data.rows import missing_column
from expertbank.data.spec import HeldOut, SourceSpec, TaskSpec
from expertbank.errors import DataError, InputError, NotFoundError, SourceUnavailableError
from expertbank.records import ProgressCallback, no_progress
from expertbank.texts import plain_text

OFFLINE_WAYS = (
    "without a network: pip install 'expertbank[offline]', or give your own copy with --data FILE"
)
HELD_OUT = "rule held_out"
"""What names the column by which validation rows are told, for messages."""


class NoPathError(InputError):
    """There is no file or folder of this name."""


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source that was found.

    Attributes:
        spec: which source of the task it is, with its peculiarities.
        tables: its raw records, to be opened one after the other.
        ref: reference that reads the same rows again, from any working folder.
        revision: commit of a Hub data set or version of a package, where known.
    """

    spec: SourceSpec
    tables: Tables
    ref: str
    revision: str | None


def open_source(
    spec: TaskSpec, source: str | None = None, progress: ProgressCallback = no_progress
) -> OpenSource:
    """Find the source the user named, else the first of the task's own that can be had.

    Args:
        spec: the task.
        source: a source reference; ``None`` for the task's own sources in order.
        progress: told how much of a file was read.

    Raises:
        SourceUnavailableError: nothing could be reached; the message lists what was tried.
        InputError: the reference is malformed, the path that was named does not exist, or neither
            does one of the task's own, or the task has no source and none was named.
        DataError: a file is malformed.
    """

    def reader(source: SourceSpec) -> Reader:
        fallback = source.encoding_fallback or spec.read_as.fallback
        return Reader(source, replace(spec.read_as, fallback=fallback), progress)

    if source is not None:
        try:
            return _open(reader(_source_spec(spec, source)))
        except SourceUnavailableError as error:
            raise SourceUnavailableError(f"{error}; {OFFLINE_WAYS}") from error
    if not spec.sources:
        raise NotFoundError.of(
            "task in the catalog", spec.name, catalog_names(), "give rows of your own with --data"
        )
    tried: list[tuple[str, Exception]] = []
    for candidate in spec.sources:
        try:
            return _open(reader(candidate))
        except (SourceUnavailableError, NoPathError) as error:
            tried.append((candidate.name, error))
    if all(isinstance(error, NoPathError) for _, error in tried):
        told = "; ".join(str(error) for _, error in tried)
        raise InputError(f"{told}; mend the sources of task {spec.name}, or give rows with --data")
    told = "; ".join(f"{name}: {error}" for name, error in tried)
    raise SourceUnavailableError(
        f"no source of task {spec.name} could be had; tried {told}; {OFFLINE_WAYS}"
    )


def _source_spec(spec: TaskSpec, source: str) -> SourceSpec:
    """The task's own source that ``source`` means, else a plain one."""
    ref = parse_source(source)
    for known in spec.sources:
        if parse_source(known.ref).place == ref.place:
            return replace(known, ref=source)
    return SourceSpec(name="data", ref=source)


def _open(reader: Reader) -> OpenSource:
    source = reader.source
    ref = parse_source(source.ref)
    stable = ref.stable
    revision: str | None = None
    if ref.scheme == "hub":
        tables, revision = read_hub(ref, source)
        if revision:
            config = f":{ref.config}" if ref.config else ""
            stable = f"hf:{ref.location}{config}@{revision}"
    else:
        tables = _read_located(ref, reader)
        if ref.scheme == "package":
            revision = package_version(ref.location)
    if source.held_out is not None:
        tables = replace(tables, held_out=_held_out(source.held_out, reader))
    return OpenSource(source, tables, stable, revision)


def _read_located(ref: SourceRef, reader: Reader) -> Tables:
    try:
        return reader.path(located(ref), ref.name)
    except OSError as error:
        raise SourceUnavailableError(
            f"cannot read {error.filename or ref.text}: {error.strerror or error}"
        ) from error


def located(ref: SourceRef) -> Path | None:
    """Where a file, folder or pipe is; ``None`` for standard input.

    Raises:
        NoPathError: it is not there.
        InputError: it cannot be looked at.
        SourceUnavailableError: it is gone: a pipe that was read before, or a package.
    """
    if ref.scheme == "once":
        raise SourceUnavailableError(
            f"the rows came through {ref.location}, which cannot be read again; keep data that "
            "shall be verified later in a file"
        )
    if ref.scheme == "stdin":
        return None
    if ref.scheme == "package":
        return package_path(ref)
    path = Path(ref.location)
    try:
        path.stat()
    except FileNotFoundError:
        raise NoPathError(f"there is no file or folder {ref.text}") from None
    except OSError as error:
        raise InputError(f"cannot read {ref.text}: {error.strerror or error}") from error
    return path


def _held_out(rule: HeldOut, reader: Reader) -> tuple[str, frozenset[str]]:
    """The column and the values by which rows are told that stand in a second file."""
    plain = replace(reader, source=SourceSpec(name="held out", ref=rule.ref))
    second = _read_located(parse_source(rule.ref), plain)
    keys = set()
    for open_table in second.train:
        table = open_table()
        if rule.column not in table.columns:
            raise missing_column(HELD_OUT, rule.column, table)
        for record in table.rows({rule.column}):
            if isinstance(record, DataError):
                raise record
            keys.add(held_out_key(record, rule.column))
    return rule.column, frozenset(keys)


def held_out_key(record: Record, column: str) -> str:
    """The value by which a record is told to be for validation.

    Raises:
        DataError: it has none.
    """
    value = plain_text(record.values.get(column), record.origin, column)
    if value is None:
        raise DataError(f"{record.origin}: column {column!r} is empty", "no key")
    return value
