"""Data sets on the Hugging Face Hub, through ``datasets`` (imported only here and for Parquet)."""

from __future__ import annotations

from typing import Any

from expertbank.data.files import Tables, choose
from expertbank.data.readers import Table, quiet_datasets, records_of
from expertbank.data.refs import SourceRef
from expertbank.data.spec import SourceSpec
from expertbank.errors import DataError, SourceUnavailableError

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

    with quiet_datasets():
        try:
            data = datasets.load_dataset(ref.location, ref.config, revision=commit or ref.revision)
        except Exception as error:
            # Network, format and cache errors come in many kinds.
            raise _unavailable(ref, error) from error
    names = [str(name) for name in data]
    train, validation = choose(names, source, ref.text)
    tables = Tables(
        *(tuple(_table(data, ref, name) for name in part) for part in (train, validation))
    )
    return tables, commit


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
    records = records_of(data[split].to_list(), name)
    if not records:
        raise DataError(f"{name}:1: the split holds no rows")
    return Table(name, tuple(data[split].column_names), records)


def _unavailable(ref: SourceRef, error: Exception) -> SourceUnavailableError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return SourceUnavailableError(f"{ref.text} could not be had from the Hub: {reason[0]}")
