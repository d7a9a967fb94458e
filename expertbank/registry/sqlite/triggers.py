"""SQLite triggers that keep frozen rows frozen, whoever opens the file.

Each trigger names only its own table, so a table can be rebuilt without touching others. What
they refuse is said by ``expertbank.registry.frozen``. A row is refused to be replaced, too:
``INSERT OR REPLACE`` fires no delete trigger.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from expertbank.registry.frozen import FROZEN, PREFIX, Freeze


def definitions() -> dict[str, str]:
    """Trigger name to its ``CREATE TRIGGER`` statement, as ``sqlite_master`` keeps it."""
    return {name: sql for freeze in FROZEN for name, sql in _of(freeze).items()}


def install(connection: Connection) -> None:
    """Create every trigger; the tables must be at the head revision."""
    for sql in definitions().values():
        connection.execute(text(sql))


def drop(connection: Connection) -> None:
    """Drop every trigger of ours that exists, of this or an earlier revision."""
    for name in installed(connection):
        connection.execute(text(f'DROP TRIGGER "{name}"'))


def installed(connection: Connection) -> dict[str, str]:
    """Our triggers as the database has them: name to statement."""
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    rows = connection.execute(query)
    return {name: sql for name, sql in rows if name.startswith(PREFIX)}


def _of(freeze: Freeze) -> dict[str, str]:
    table = freeze.table
    columns = f" OF {', '.join(freeze.columns)}" if freeze.columns else ""
    triggers = {f"{PREFIX}{table}_update": _refusal(table, f"UPDATE{columns}", "changed")}
    if freeze.keys:
        same = " OR ".join(
            "(" + " AND ".join(f"{column} = NEW.{column}" for column in key) + ")"
            for key in freeze.keys
        )
        exists = f" WHEN EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608 - constants
        triggers[f"{PREFIX}{table}_delete"] = _refusal(table, "DELETE", "deleted")
        triggers[f"{PREFIX}{table}_replace"] = _refusal(table, "INSERT", "replaced", exists)
    return {name: f"CREATE TRIGGER {name} {body}" for name, body in triggers.items()}


def _refusal(table: str, action: str, verb: str, when: str = "") -> str:
    return (
        f"BEFORE {action} ON {table}{when} "
        f"BEGIN SELECT RAISE(ABORT, '{table}: a registered row cannot be {verb}'); END"
    )
