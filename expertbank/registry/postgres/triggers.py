"""PostgreSQL triggers that keep frozen rows frozen, whoever connects.

One function refuses; a trigger for each table calls it for what ``expertbank.registry.frozen``
refuses. ``INSERT ... ON CONFLICT DO UPDATE`` is an update here, so nothing more guards against
replacing; ``TRUNCATE`` fires no delete trigger, so it has its own.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from expertbank.registry.frozen import FROZEN, PREFIX, Freeze

FUNCTION = f"{PREFIX}refusal"
_BODY = """
BEGIN
  RAISE EXCEPTION '%: a registered row cannot be %', TG_TABLE_NAME, TG_ARGV[0]
    USING ERRCODE = 'integrity_constraint_violation';
END
"""
ALWAYS = "O"
"""How ``pg_trigger`` writes that a trigger is switched on."""


def definitions() -> dict[str, str]:
    """Trigger name to its statement as the server writes it; the function's name to its body."""
    found = {name: sql for freeze in FROZEN for name, sql in _of(freeze).items()}
    return {**found, FUNCTION: _BODY}


def install(connection: Connection) -> None:
    """Create function and triggers; the tables must be at the head revision."""
    function = f"CREATE FUNCTION {FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $${_BODY}$$"
    connection.execute(text(function))
    for name, sql in definitions().items():
        if name != FUNCTION:
            connection.execute(text(sql))


def drop(connection: Connection) -> None:
    """Drop function and triggers of ours that exist, of this or an earlier revision."""
    query = text(
        "SELECT tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
        "WHERE NOT tgisinternal AND relnamespace = current_schema()::regnamespace"
    )
    for name, table in connection.execute(query).all():
        if name.startswith(PREFIX):
            connection.execute(text(f'DROP TRIGGER "{name}" ON "{table}"'))
    connection.execute(text(f"DROP FUNCTION IF EXISTS {FUNCTION}()"))


def installed(connection: Connection) -> dict[str, str]:
    """Our triggers and function as the database has them; one switched off says so."""
    triggers = text(
        "SELECT tgname, pg_get_triggerdef(pg_trigger.oid, true), tgenabled FROM pg_trigger "
        "JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal "
        "AND relnamespace = current_schema()::regnamespace ORDER BY tgname"
    )
    found = {
        name: sql if enabled == ALWAYS else f"{sql} (switched off)"
        for name, sql, enabled in connection.execute(triggers)
        if name.startswith(PREFIX)
    }
    body = text(
        "SELECT prosrc FROM pg_proc WHERE proname = :name AND "
        "pronamespace = current_schema()::regnamespace"
    )
    source = connection.scalar(body, {"name": FUNCTION})
    return found if source is None else {**found, FUNCTION: source}


def _of(freeze: Freeze) -> dict[str, str]:
    table = freeze.table
    columns = f" OF {', '.join(freeze.columns)}" if freeze.columns else ""
    found = {"update": (f"UPDATE{columns}", "ROW", "changed")}
    if freeze.keys:
        found["delete"] = ("DELETE", "ROW", "deleted")
        found["truncate"] = ("TRUNCATE", "STATEMENT", "deleted")
    return {
        f"{PREFIX}{table}_{kind}": (
            f"CREATE TRIGGER {PREFIX}{table}_{kind} BEFORE {action} ON {table} "
            f"FOR EACH {each} EXECUTE FUNCTION {FUNCTION}('{verb}')"
        )
        for kind, (action, each, verb) in found.items()
    }
