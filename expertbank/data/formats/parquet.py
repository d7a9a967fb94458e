"""Parquet: only the columns that are asked for, some rows at a time."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

from expertbank.data.formats.table import Found, Record
from expertbank.errors import DataError

MAGIC = b"PAR1"
_BATCH = 1024


class Parquet:
    """A Parquet file whose columns are known and whose rows are still to come.

    Attributes:
        columns: names of its top-level columns.
        count: rows.
        class_names: of columns that ``datasets`` wrote as class numbers, their names.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        """Read the footer.

        Args:
            stream: the file, which must stay open and can be read from any place.
            name: what to call it in messages.

        Raises:
            DataError: it is not Parquet.
        """
        from pyarrow.parquet import ParquetFile

        self._name = name
        try:
            self._file = ParquetFile(stream)
            schema = self._file.schema_arrow
        except Exception as error:
            raise self._unreadable(error) from error
        self.columns: tuple[str, ...] = tuple(schema.names)
        self.count: int = self._file.metadata.num_rows
        self.class_names = class_names(_features(schema.metadata or {}))

    def rows(self, wanted: Collection[str]) -> Iterator[Found]:
        """Records with the columns ``wanted``; a row's number from 1 takes the line's place.

        Raises:
            DataError: the file is damaged.
        """
        names = [name for name in self.columns if name in wanted]
        number = 0
        try:
            for batch in self._file.iter_batches(_BATCH, columns=names):
                # Asked for by name, `a` brings a column `a.b` along.
                for values in batch.select(names).to_pylist():
                    number += 1
                    yield Record(values, f"{self._name}:{number}")
        except Exception as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DataError:
        # The library raises many kinds for bad files.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        return DataError(f"{self._name}:1: not readable as Parquet: {reason[0]}", "damaged")


def class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Names of classes by column, from the features of ``datasets`` in plain form."""
    found = {}
    for column, feature in features.items():
        # A list of classes is written as its element's feature, in one of two ways.
        while isinstance(feature, list) or (isinstance(feature, Mapping) and "feature" in feature):
            feature = feature["feature"] if isinstance(feature, Mapping) else next(iter(feature), 0)
        names = feature.get("names") if isinstance(feature, Mapping) else None
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
            found[column] = tuple(names)
    return found


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What ``datasets`` noted of the columns; nothing where it did not write the file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, Mapping) else {}
