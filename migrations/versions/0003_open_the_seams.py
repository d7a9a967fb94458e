"""Let kinds come from outside, and let a backbone and a store say where they are.

Revision 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS = "kind IN ('classification', 'multiple_choice', 'regression')"


def upgrade() -> None:
    """Any kind with a name; a backbone's revision and lasting identity; where the files are."""
    for table in ("tasks", "experts"):
        with op.batch_alter_table(table, recreate="auto") as batch:
            batch.drop_constraint(op.f(f"ck_{table}_kind"), type_="check")
            batch.create_check_constraint(op.f(f"ck_{table}_kind_not_empty"), "length(kind) > 0")
    for column in ("revision", "identity", "store"):
        op.add_column("backbones", sa.Column(column, sa.Text(), nullable=True))


def downgrade() -> None:
    """Only the three kinds of old; fails where a task has another."""
    with op.batch_alter_table("backbones") as batch:
        for column in ("revision", "identity", "store"):
            batch.drop_column(column)
    for table in ("tasks", "experts"):
        with op.batch_alter_table(table, recreate="auto") as batch:
            batch.drop_constraint(op.f(f"ck_{table}_kind_not_empty"), type_="check")
            batch.create_check_constraint(op.f(f"ck_{table}_kind"), KINDS)
