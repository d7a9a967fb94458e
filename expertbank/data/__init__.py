"""Tasks: where rows come from and what becomes of them until they are token ids.

A ``TaskSpec`` names a task's columns, labels, sources and split; the catalog holds those known by
name, and ``load_spec`` reads one from a file. ``load_task`` reads the first source that can be had
(the one the user named, an installed data package, the Hub), refuses anything malformed by file and
line, drops duplicates and leaks, splits by hash, and returns canonical rows. ``check_task`` is the
dry run. ``rows_to_answer`` reads rows without labels, ``asked_rows`` those of a server's
log too. ``encode_rows`` turns rows into token ids.

Nothing here imports torch or SQL, and ``datasets`` only for the Hub.
"""

from __future__ import annotations

from expertbank.data.asked import Asked, asked_rows
from expertbank.data.catalog import catalog_names, catalog_spec
from expertbank.data.check import TaskCheck, check_task
from expertbank.data.encode import encode_rows
from expertbank.data.faults import BadRowsError, Faults
from expertbank.data.formats import FileFacts, ReadAs
from expertbank.data.inputs import RowLike, as_rows, row_of
from expertbank.data.lengths import LengthCounter, length_counter
from expertbank.data.load import TaskData, find_rows, load_task, read_rows, rows_digest, task_spec
from expertbank.data.refs import SourceRef, parse_source, source_text
from expertbank.data.spec import Columns, SourceSpec, SplitRule, TaskSpec
from expertbank.data.spec_file import load_spec
from expertbank.data.splits import hold_out_for_selection, take
from expertbank.data.unlabelled import most_rows, rows_to_answer

__all__ = [
    "Asked",
    "BadRowsError",
    "Columns",
    "Faults",
    "FileFacts",
    "LengthCounter",
    "ReadAs",
    "RowLike",
    "SourceRef",
    "SourceSpec",
    "SplitRule",
    "TaskCheck",
    "TaskData",
    "TaskSpec",
    "as_rows",
    "asked_rows",
    "catalog_names",
    "catalog_spec",
    "check_task",
    "encode_rows",
    "find_rows",
    "hold_out_for_selection",
    "length_counter",
    "load_spec",
    "load_task",
    "most_rows",
    "parse_source",
    "read_rows",
    "row_of",
    "rows_digest",
    "rows_to_answer",
    "source_text",
    "take",
    "task_spec",
]
