"""Let tasks form groups that answer one text together.

Revision 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tasks so far stand alone: their group is null."""
    op.add_column("tasks", sa.Column("group_name", sa.Text(), nullable=True))


def downgrade() -> None:
    """Forget the groups."""
    op.drop_column("tasks", "group_name")
