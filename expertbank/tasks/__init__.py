"""Tasks: where rows come from and what becomes of them until they are token ids.

A ``TaskSpec`` names a task's columns, labels, sources and split; the catalog holds those known by
name. ``load_task`` reads the first source that can be had (the one the user named, an installed
data package, the Hub), refuses anything malformed by file and line, drops duplicates and leaks,
splits by hash, and returns canonical rows. ``encode_rows`` turns rows into token ids.

Nothing here imports torch or SQL, and ``datasets`` only for Parquet and the Hub.
"""

from __future__ import annotations

from expertbank.tasks.catalog import catalog_names, catalog_spec
from expertbank.tasks.encode import encode_rows
from expertbank.tasks.load import TaskData, find_rows, load_task, read_rows, rows_digest, task_spec
from expertbank.tasks.refs import SourceRef, parse_source
from expertbank.tasks.rows import parse_prediction_rows
from expertbank.tasks.spec import Columns, SourceSpec, SplitRule, TaskSpec, require_trainable
from expertbank.tasks.splits import hold_out_for_selection, take

__all__ = [
    "Columns",
    "SourceRef",
    "SourceSpec",
    "SplitRule",
    "TaskData",
    "TaskSpec",
    "catalog_names",
    "catalog_spec",
    "encode_rows",
    "find_rows",
    "hold_out_for_selection",
    "load_task",
    "parse_prediction_rows",
    "parse_source",
    "read_rows",
    "require_trainable",
    "rows_digest",
    "take",
    "task_spec",
]
