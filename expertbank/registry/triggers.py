"""SQLite triggers that keep frozen rows frozen, whoever opens the file.

Each trigger names only its own table, so a table can be rebuilt without touching others.
Triggers are code, not data: ``migrations/env.py`` drops them before it migrates (Alembic's
batch mode would lose them silently, and data migrations need to update rows) and installs
this list again once the schema is at head.

What may still change, and why:

* ``backbones``: where it is (``reference``, ``revision``) and its ``identity``; never its digest.
* ``tasks``: everything but name and kind; ``removed_at`` and ``removals`` move on removal, and
  ``group_name`` is what the next router will go by: a fitted one has its own in ``router_members``.
* ``aliases``: they exist to be moved; ``alias_events`` keeps every move.
* ``artifacts.purged_at``: ``gc --purge-removed`` deletes the bytes of a removed task's
  artifacts, ``gc --keep-routers`` those of old routers. A row that an expert, a router or an
  evaluation refers to stays, marked; a row that nothing refers to may be deleted, as may
  ``feature_sets`` and ``statistics``. Nothing else can be deleted.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

PREFIX = "frozen_"


@dataclass(frozen=True, slots=True)
class Freeze:
    """What is refused for one table.

    Attributes:
        table: the table.
        columns: columns whose update is refused; none named means every column.
        keys: groups of columns that identify a row; when given, deleting a row is refused,
            and so is replacing one (``INSERT OR REPLACE`` fires no delete trigger).
    """

    table: str
    columns: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()


FROZEN = (
    Freeze(
        "backbones",
        ("id", "slot", "digest", "architecture", "feature_spec", "feature_spec_digest", "store"),
        keys=(("id",), ("slot",), ("digest",)),
    ),
    Freeze("tasks", ("id", "name", "kind", "created_at"), keys=(("id",), ("name",))),
    Freeze("artifacts", ("digest", "kind", "bytes", "created_at")),
    Freeze("runs", keys=(("id",),)),
    Freeze("experts", keys=(("id",), ("task_id", "version"))),
    Freeze("feature_sets"),
    Freeze("statistics"),
    Freeze("routers", keys=(("id",), ("version",), ("digest",))),
    Freeze("router_members", keys=(("router_id", "position"), ("router_id", "expert_id"))),
    Freeze("alias_events", keys=(("id",),)),
    Freeze("evaluations", keys=(("id",),)),
    Freeze("exports", keys=(("id",),)),
)


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
