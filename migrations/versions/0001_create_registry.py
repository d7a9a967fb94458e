"""Create the registry: twelve tables.

Revision 0001. JSON columns are text here, so that this file depends on nothing of expertbank.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table of an empty bank."""
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("purged_at", sa.Text(), nullable=True),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_artifacts_bytes")),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_artifacts_digest_is_sha256")),
        sa.CheckConstraint("length(kind) > 0", name=op.f("ck_artifacts_kind_not_empty")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "backbones",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("architecture", sa.Text(), nullable=False),
        sa.Column("feature_spec", sa.Text(), nullable=False),
        sa.Column("feature_spec_digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_backbones_digest_is_sha256")),
        sa.CheckConstraint(
            "length(feature_spec_digest) = 64",
            name=op.f("ck_backbones_feature_spec_digest_is_sha256"),
        ),
        sa.CheckConstraint("slot = 1", name=op.f("ck_backbones_one_per_bank")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backbones")),
        sa.UniqueConstraint("digest", name=op.f("uq_backbones_digest")),
        sa.UniqueConstraint("slot", name=op.f("uq_backbones_slot")),
    )
    op.create_table(
        "tasks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.Text(), nullable=True),
        sa.Column("removals", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('classification', 'multiple_choice', 'regression')",
            name=op.f("ck_tasks_kind"),
        ),
        sa.CheckConstraint("length(name) > 0", name=op.f("ck_tasks_name_not_empty")),
        sa.CheckConstraint("removals >= 0", name=op.f("ck_tasks_removals")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tasks")),
        sa.UniqueConstraint("name", name=op.f("uq_tasks_name")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("backbone_digest", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("length(kind) > 0", name=op.f("ck_runs_kind_not_empty")),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_runs_seconds")),
        sa.ForeignKeyConstraint(
            ["backbone_digest"],
            ["backbones.digest"],
            name=op.f("fk_runs_backbone_digest_backbones"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
    )
    op.create_table(
        "experts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("adapter_params", sa.Integer(), nullable=False),
        sa.Column("head_params", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('classification', 'multiple_choice', 'regression')",
            name=op.f("ck_experts_kind"),
        ),
        sa.CheckConstraint(
            "adapter_params >= 0 AND head_params >= 0 AND bytes >= 0", name=op.f("ck_experts_sizes")
        ),
        sa.CheckConstraint("version >= 1", name=op.f("ck_experts_version")),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["artifacts.digest"],
            name=op.f("fk_experts_digest_artifacts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_experts_run_id_runs"), ondelete="RESTRICT"
        ),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_experts_task_id_tasks"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experts")),
        sa.UniqueConstraint("id", "digest", name=op.f("uq_experts_id_digest")),
        sa.UniqueConstraint("task_id", "version", name=op.f("uq_experts_task_id_version")),
    )
    op.create_table(
        "routers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("params", sa.Integer(), nullable=False),
        sa.Column("feature_spec_digest", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(feature_spec_digest) = 64",
            name=op.f("ck_routers_feature_spec_digest_is_sha256"),
        ),
        sa.CheckConstraint("params >= 0", name=op.f("ck_routers_params")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_routers_version")),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["artifacts.digest"],
            name=op.f("fk_routers_digest_artifacts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_routers_run_id_runs"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_routers")),
        sa.UniqueConstraint("digest", name=op.f("uq_routers_digest")),
        sa.UniqueConstraint("version", name=op.f("uq_routers_version")),
    )
    op.create_table(
        "alias_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("router_version", sa.Integer(), nullable=False),
        sa.Column("previous_version", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "length(name) BETWEEN 1 AND 64", name=op.f("ck_alias_events_name_length")
        ),
        sa.ForeignKeyConstraint(
            ["previous_version"],
            ["routers.version"],
            name=op.f("fk_alias_events_previous_version_routers"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["router_version"],
            ["routers.version"],
            name=op.f("fk_alias_events_router_version_routers"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_events")),
    )
    op.create_table(
        "aliases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("router_version", sa.Integer(), nullable=False),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 64", name=op.f("ck_aliases_name_length")),
        sa.ForeignKeyConstraint(
            ["router_version"],
            ["routers.version"],
            name=op.f("fk_aliases_router_version_routers"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_aliases")),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("expert_id", sa.Integer(), nullable=False),
        sa.Column("router_version", sa.Integer(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("correct", sa.Integer(), nullable=False),
        sa.Column("artifact_digest", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "n >= 0 AND correct >= 0 AND correct <= n", name=op.f("ck_evaluations_counts")
        ),
        sa.ForeignKeyConstraint(
            ["artifact_digest"],
            ["artifacts.digest"],
            name=op.f("fk_evaluations_artifact_digest_artifacts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["expert_id"],
            ["experts.id"],
            name=op.f("fk_evaluations_expert_id_experts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["router_version"],
            ["routers.version"],
            name=op.f("fk_evaluations_router_version_routers"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
    )
    op.create_index(
        op.f("ix_evaluations_expert_id_router_version"),
        "evaluations",
        ["expert_id", "router_version"],
        unique=False,
    )
    op.create_table(
        "exports",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("router_version", sa.Integer(), nullable=False),
        sa.Column("experts", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("length(digest) = 64", name=op.f("ck_exports_digest_is_sha256")),
        sa.CheckConstraint("length(format) > 0", name=op.f("ck_exports_format_not_empty")),
        sa.ForeignKeyConstraint(
            ["router_version"],
            ["routers.version"],
            name=op.f("fk_exports_router_version_routers"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
    )
    op.create_table(
        "feature_sets",
        sa.Column("expert_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("feature_spec_digest", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("n_train", sa.Integer(), nullable=False),
        sa.Column("n_eval", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "dimension >= 1 AND n_train >= 0 AND n_eval >= 0 AND bytes >= 0",
            name=op.f("ck_feature_sets_sizes"),
        ),
        sa.CheckConstraint(
            "length(feature_spec_digest) = 64",
            name=op.f("ck_feature_sets_feature_spec_digest_is_sha256"),
        ),
        sa.ForeignKeyConstraint(
            ["digest"],
            ["artifacts.digest"],
            name=op.f("fk_feature_sets_digest_artifacts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["expert_id"],
            ["experts.id"],
            name=op.f("fk_feature_sets_expert_id_experts"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("expert_id", name=op.f("pk_feature_sets")),
    )
    op.create_table(
        "router_members",
        sa.Column("router_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("expert_id", sa.Integer(), nullable=False),
        sa.Column("expert_digest", sa.Text(), nullable=False),
        sa.CheckConstraint("position >= 0", name=op.f("ck_router_members_position")),
        sa.ForeignKeyConstraint(
            ["expert_id", "expert_digest"],
            ["experts.id", "experts.digest"],
            name=op.f("fk_router_members_expert_id_expert_digest_experts"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["router_id"],
            ["routers.id"],
            name=op.f("fk_router_members_router_id_routers"),
            ondelete="RESTRICT",
        ),
        sa.PrimaryKeyConstraint("router_id", "position", name=op.f("pk_router_members")),
        sa.UniqueConstraint(
            "router_id", "expert_id", name=op.f("uq_router_members_router_id_expert_id")
        ),
    )


def downgrade() -> None:
    """Drop every table."""
    op.drop_table("router_members")
    op.drop_table("feature_sets")
    op.drop_table("exports")
    op.drop_index(op.f("ix_evaluations_expert_id_router_version"), table_name="evaluations")
    op.drop_table("evaluations")
    op.drop_table("aliases")
    op.drop_table("alias_events")
    op.drop_table("routers")
    op.drop_table("experts")
    op.drop_table("runs")
    op.drop_table("tasks")
    op.drop_table("backbones")
    op.drop_table("artifacts")
