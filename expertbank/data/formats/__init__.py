"""File formats: bytes in, one table of raw records out. ``open_table`` is the way in.

``stream`` opens files, pipes and standard input and takes gzip off; ``lines`` makes checked text of
bytes; ``delimited``, ``json_rows`` and ``parquet`` each read one family of formats.
"""

from __future__ import annotations

from expertbank.data.formats.opening import (
    AHEAD,
    SUFFIXES,
    ReadAs,
    bare_name,
    open_table,
    suffix_of,
)
from expertbank.data.formats.table import FileFacts, Found, Record, Table

__all__ = [
    "AHEAD",
    "SUFFIXES",
    "FileFacts",
    "Found",
    "ReadAs",
    "Record",
    "Table",
    "bare_name",
    "open_table",
    "suffix_of",
]
