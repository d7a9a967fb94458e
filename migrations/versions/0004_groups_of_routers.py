"""Let a task's group change: what a router was fitted with is kept with the router.

Until now a task kept its group for ever, so that of every fitted router is the task's.

Revision 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every router's members get the groups that it was fitted with."""
    op.add_column("router_members", sa.Column("group_name", sa.Text(), nullable=True))
    op.execute(
        "UPDATE router_members SET group_name = (SELECT tasks.group_name FROM experts "
        "JOIN tasks ON tasks.id = experts.task_id WHERE experts.id = router_members.expert_id)"
    )
    op.create_index("ix_runs_kind", "runs", ["kind"])


def downgrade() -> None:
    """Forget them: every router counts as fitted with the tasks' present groups."""
    op.drop_index("ix_runs_kind", "runs")
    op.drop_column("router_members", "group_name")
