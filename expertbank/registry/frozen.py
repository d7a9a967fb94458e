"""Which rows are frozen, whatever database keeps them; each dialect has triggers that refuse.

Triggers are code, not data: ``migrations/env.py`` drops them before it migrates (Alembic's
batch mode would lose them silently, and data migrations need to update rows) and installs
those of this list again once the schema is at head.

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

PREFIX = "frozen_"


@dataclass(frozen=True, slots=True)
class Freeze:
    """What is refused for one table.

    Attributes:
        table: the table.
        columns: columns whose update is refused; none named means every column.
        keys: groups of columns that identify a row; when given, deleting a row is refused,
            and so is replacing one.
    """

    table: str
    columns: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()


FROZEN = (
    Freeze("banks", keys=(("slot",),)),
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
