"""``doctor``: the server of a bank in a database, and what this machine keeps of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec

from expertbank.errors import ExpertBankError
from expertbank.workflows.home import DatabaseHome
from expertbank.workflows.keeping.doctor_folder import space
from expertbank.workflows.keeping.findings import Finding

SLOW = 0.2
"""Seconds to and from the server from which on every command is slow."""


def looks(home: DatabaseHome) -> Iterator[Finding]:
    """Driver, server and way to it; and the folder for what is this machine's own."""
    if find_spec("psycopg") is None:
        todo = "run: pip install 'expertbank[postgres]'"
        yield Finding("psycopg", "problem", "not installed", todo)
        return
    try:
        start = time.perf_counter()
        facts = home.location.facts()
        seconds = time.perf_counter() - start
    except ExpertBankError as error:
        yield Finding("server", "problem", str(error), "see what it says")
        return
    found = (
        f"PostgreSQL {facts.version}, schema {facts.schema or '(none)'}, connected and asked in "
        f"{1000 * seconds:.0f} ms"
    )
    if seconds > SLOW:
        yield Finding("server", "warning", found, "use a server that is nearer")
    else:
        yield Finding("server", "ok", found)
    if facts.read_only:
        yield Finding("writable", "warning", "it only reads: a standby", "name the primary")
    yield Finding("this machine's folder", "ok", str(home.cache))
    yield from space(home.cache)
