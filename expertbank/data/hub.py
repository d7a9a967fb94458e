"""Data sets on the Hugging Face Hub, through ``datasets`` (imported only here)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from expertbank.data.files import Tables, choose
from expertbank.data.formats import FileFacts, Found, Record, Table
from expertbank.data.formats.parquet import class_names
from expertbank.data.refs import SourceRef
from expertbank.data.spec import SourceSpec
from expertbank.errors import DataError, SourceUnavailableError
from expertbank.process_wide import WhileAny

_TIMEOUT = 10.0


def read_hub(ref: SourceRef, source: SourceSpec) -> tuple[Tables, str | None]:
    """Rows of a Hub data set, and the commit they are from where it is known.

    The Hub is asked for the commit first, with a short time limit: ``datasets`` alone retries for
    half a minute when there is no network. In the Hub library's offline mode an earlier download
    is used, and as nothing tells which commit that was, none is returned.

    Raises:
        SourceUnavailableError: the Hub cannot be reached, or has no such data set.
        DataError: the data set has no rows.
        InputError: its splits cannot be told apart.
    """
    commit = _commit(ref)
    import datasets

    with _QUIET:
        try:
            data = datasets.load_dataset(ref.location, ref.config, revision=commit or ref.revision)
        except Exception as error:
            # Network, format and cache errors come in many kinds.
            raise _unavailable(ref, error) from error
    names = [str(name) for name in data]
    train, validation, test = choose(names, source, ref.text)
    parts = [
        tuple(partial(_table, data, ref, name) for name in part)
        for part in (train, validation, test)
    ]
    return Tables(parts[0], parts[1], parts[2]), commit


def _commit(ref: SourceRef) -> str | None:
    """The commit that the reference means now; ``None`` in offline mode."""
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        info = huggingface_hub.HfApi().dataset_info(
            ref.location, revision=ref.revision, timeout=_TIMEOUT
        )
    except OfflineModeIsEnabled:
        return None
    except Exception as error:
        # The kinds differ between versions of the Hub library's HTTP client.
        raise _unavailable(ref, error) from error
    return None if info.sha is None else str(info.sha)


def _table(data: Any, ref: SourceRef, split: str) -> Table:
    name = f"{ref.text}/{split}"
    part = data[split]
    if not len(part):
        raise DataError(f"{name}:1: the split holds no rows")

    def rows(wanted: Collection[str]) -> Iterator[Found]:
        some = part.select_columns([name for name in part.column_names if name in wanted])
        for number, values in enumerate(some, start=1):
            yield Record(values, f"{name}:{number}")

    return Table(
        FileFacts(name, "hub"),
        tuple(part.column_names),
        rows,
        class_names(part.features.to_dict()),
    )


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """No progress bars or log lines from ``datasets`` meanwhile: errors here say it all."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if shown:
            datasets.enable_progress_bars()


_QUIET = WhileAny(_quiet_datasets)


def _unavailable(ref: SourceRef, error: Exception) -> SourceUnavailableError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return SourceUnavailableError(f"{ref.text} could not be had from the Hub: {reason[0]}")
