"""Every bank gets a name of its own, that copies keep: local folders and stores go by it.

On PostgreSQL, where a database may be made for any language, texts are compared byte by byte
from here on, as SQLite does: the order of tasks is part of a router's digest.

Revision 0006.
"""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One row with the name; on PostgreSQL a collation for every text."""
    banks = op.create_table(
        "banks",
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.CheckConstraint("slot = 1", name=op.f("ck_banks_one")),
        sa.CheckConstraint("length(id) = 32", name=op.f("ck_banks_id_length")),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_banks")),
    )
    op.bulk_insert(banks, [{"slot": 1, "id": uuid.uuid4().hex}])
    _collate("C")


def downgrade() -> None:
    """The name is forgotten: an upgrade gives another."""
    _collate("default")
    op.drop_table("banks")


def _collate(collation: str) -> None:
    bind = op.get_bind()
    if bind.dialect.name != "postgresql":
        return
    columns = bind.execute(
        sa.text(
            "SELECT table_name, column_name FROM information_schema.columns WHERE "
            "table_schema = current_schema() AND data_type = 'text' AND table_name IN "
            "('banks', 'backbones', 'tasks', 'artifacts', 'runs', 'experts', 'feature_sets', "
            "'statistics', 'routers', 'router_members', 'aliases', 'alias_events', "
            "'evaluations', 'exports') ORDER BY table_name, ordinal_position"
        )
    ).all()
    changes: dict[str, list[str]] = {}
    for table, column in columns:
        change = f'ALTER COLUMN {column} TYPE text COLLATE "{collation}"'
        changes.setdefault(table, []).append(change)
    for table, alterations in changes.items():
        op.execute(f"ALTER TABLE {table} {', '.join(alterations)}")
