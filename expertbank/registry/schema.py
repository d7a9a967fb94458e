"""Which revision a database has, and bringing it to ``HEAD`` by the installed migrations.

Alembic is imported only to create or upgrade. Opening compares one row with ``HEAD``.
"""

from __future__ import annotations

import threading
from importlib import resources
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from expertbank.errors import ExpertBankError, IntegrityError, NotFoundError, SchemaTooNewError

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006")
"""Every revision this program knows, oldest first; a test compares it with the migrations."""
HEAD = REVISIONS[-1]

# Alembic keeps its environment in module globals, so one migration runs at a time.
_ALEMBIC = threading.Lock()


def revision_of(connection: Connection, where: object) -> str | None:
    """Revision of the connected database; ``None`` when it is empty.

    Raises:
        IntegrityError: it belongs to another program; ``where`` is named.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    if not {"alembic_version", "experts"} <= tables:
        raise IntegrityError(f"{where} is a database of another program; check --home")
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)


def require_known(revision: str | None, where: object) -> str:
    """Refuse a database that is empty or that a newer program wrote.

    Raises:
        NotFoundError: there is no registry.
        SchemaTooNewError: this program does not know the revision.
    """
    if revision is None:
        raise NotFoundError(f"no registry at {where}; run: expertbank init, or check --home")
    if revision not in REVISIONS:
        raise SchemaTooNewError(
            f"{where} has schema {revision}, this expertbank knows up to {HEAD}; "
            "nothing was written; upgrade expertbank"
        )
    return revision


def require_head(revision: str | None, where: object) -> None:
    """Refuse a database that this program cannot use as it is.

    Raises:
        NotFoundError: there is no registry.
        SchemaTooNewError: a newer expertbank wrote it.
        ExpertBankError: an older expertbank wrote it and it was not upgraded.
    """
    if require_known(revision, where) != HEAD:
        raise ExpertBankError(
            f"{where} has schema {revision}, this expertbank needs {HEAD}; "
            "run: expertbank db upgrade"
        )


def migrate(connection: Connection) -> None:
    """Run the migrations up to ``HEAD`` within the transaction that the caller holds."""
    from alembic import command

    try:
        with _ALEMBIC:
            command.upgrade(alembic_config(connection), "head")
    except SQLAlchemyError as error:
        # After a failure Alembic drops its half-made table, which fails too where the database
        # has rolled back already: what failed first is the reason.
        first: BaseException | None = error
        while first is not None and not isinstance(first, ExpertBankError | KeyboardInterrupt):
            first = first.__context__
        if first is None:
            raise
        raise first from None


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's settings for the installed migrations, without an ini file."""
    from alembic.config import Config

    config = Config()
    location = str(resources.files("expertbank_migrations"))
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
