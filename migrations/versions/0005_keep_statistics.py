"""Statistics of every expert's training rows, beside its features.

Experts that are there get theirs with the next ``retrain-router``, of what is kept of their rows.

Revision 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A table for them; empty."""
    op.create_table(
        "statistics",
        sa.Column("expert_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("feature_spec_digest", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("projection", sa.Text(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "dimension >= 1 AND width >= 1 AND rows >= 1 AND bytes >= 0",
            name=op.f("ck_statistics_sizes"),
        ),
        sa.CheckConstraint(
            "length(feature_spec_digest) = 64",
            name=op.f("ck_statistics_feature_spec_digest_is_sha256"),
        ),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["artifacts.digest"],
            name=op.f("fk_statistics_digest_artifacts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["expert_id"],
            ["experts.id"],
            name=op.f("fk_statistics_expert_id_experts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("expert_id", name=op.f("pk_statistics")),
    )


def downgrade() -> None:
    """The statistics go; what they were made of stays."""
    op.drop_table("statistics")
