"""Run by Alembic for every command: migrates over what the caller put into the settings.

``expertbank.registry.schema`` hands in a connection whose transaction it holds itself. With an
engine (as test tools hand in) the transaction begins here. Either way all revisions, the version
row and the triggers are committed together or not at all.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, Engine

from expertbank.registry.postgres import triggers as in_postgres
from expertbank.registry.sqlite import triggers as in_sqlite
from expertbank.registry.tables import Base


def _run(connection: Connection) -> None:
    triggers = in_postgres if connection.dialect.name == "postgresql" else in_sqlite
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        transactional_ddl=True,
        compare_type=True,
        compare_server_default=True,
    )
    triggers.drop(connection)
    with context.begin_transaction():
        context.run_migrations()
    migration = context.get_context()
    if migration.get_current_heads() == tuple(context.script.get_heads()):
        triggers.install(connection)


caller: Connection | Engine = context.config.attributes["connection"]
if isinstance(caller, Engine):
    with caller.begin() as opened:
        _run(opened)
else:
    _run(caller)
