"""The tables, as typed SQLAlchemy classes.

Every constraint has a name, because Alembic can only change what it can name. Foreign keys
are all ``ON DELETE RESTRICT``: lineage is never cascaded away. Times are UTC ISO-8601 text,
sizes bytes, durations seconds; JSON is canonical text, so that equal values are equal bytes.

A column that a record has too has the record's name and gives the record's type: ``rows.py``
goes by that, so a new field is one line in ``expertbank.records`` and one here.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from expertbank.config import FeatureSpec, canonical_json

NAMING = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


class CanonicalJson(TypeDecorator[Any]):
    """JSON kept as canonical text: sorted keys, no spare white space."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Python value to text."""
        return canonical_json(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Text to Python value."""
        return None if value is None else json.loads(value)


class Figures(CanonicalJson):
    """Figures by name, kept as a JSON object; none that is not finite is kept.

    A bank of before may hold such: it reads as ``None``, as what is undefined does.
    """

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Figures to text; ``ValueError`` for one that is not finite."""
        return canonical_json(value, finite=True)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Text to figures."""
        return None if value is None else json.loads(value, parse_constant=lambda _: None)


class Texts(CanonicalJson):
    """A tuple of texts, kept as a JSON list."""

    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...]:
        """Text to tuple."""
        return () if value is None else tuple(json.loads(value))


class Spec(CanonicalJson):
    """A feature spec, kept as a JSON object."""

    cache_ok = True

    def process_bind_param(self, value: FeatureSpec | None, dialect: Dialect) -> str:
        """Feature spec to text."""
        return canonical_json(None if value is None else value.to_dict())

    def process_result_value(self, value: str | None, dialect: Dialect) -> FeatureSpec | None:
        """Text to feature spec."""
        return None if value is None else FeatureSpec.from_dict(json.loads(value))


class Base(DeclarativeBase):
    """Owner of the metadata that migrations are compared with."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's name
        str: Text(),
        float: Double(),
        Any: CanonicalJson(),
        tuple[str, ...]: Texts(),
        FeatureSpec: Spec(),
    }


def _restrict(column: str) -> ForeignKey:
    return ForeignKey(column, ondelete="RESTRICT")


def _check(name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=name)


def _digest(column: str = "digest") -> CheckConstraint:
    return _check(f"{column}_is_sha256", f"length({column}) = 64")


class BankRow(Base):
    """What tells this bank from every other; made with the registry, never again."""

    __tablename__ = "banks"
    __table_args__ = (_check("one", "slot = 1"), _check("id_length", "length(id) = 32"))
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[str]


class BackboneRow(Base):
    """The one backbone of the bank; ``slot`` can only be 1, so there is never a second.

    ``revision`` is the commit of a Hub reference, ``identity`` the digest of its files (``digest``
    itself, except in banks of expertbank 0.1), ``store`` the URL of a store that is not the
    bank's own folder; each is null where there is none.
    """

    __tablename__ = "backbones"
    __table_args__ = (
        _check("one_per_bank", "slot = 1"),
        _digest(),
        _digest("feature_spec_digest"),
        UniqueConstraint("slot"),
        UniqueConstraint("digest"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(default=1)
    digest: Mapped[str]
    reference: Mapped[str]
    architecture: Mapped[Any]
    feature_spec: Mapped[FeatureSpec]
    feature_spec_digest: Mapped[str]
    created_at: Mapped[str]
    revision: Mapped[str | None]
    identity: Mapped[str | None]
    store: Mapped[str | None]


class TaskRow(Base):
    """A task; ``removed_at`` is its tombstone, ``removals`` how often it was removed.

    ``group_name`` is for the next router: those that are fitted have theirs in ``router_members``.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        _check("kind_not_empty", "length(kind) > 0"),
        _check("name_not_empty", "length(name) > 0"),
        _check("removals", "removals >= 0"),
        UniqueConstraint("name"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str]
    labels: Mapped[tuple[str, ...]]
    spec: Mapped[Any]
    created_at: Mapped[str]
    removed_at: Mapped[str | None]
    removals: Mapped[int] = mapped_column(default=0)
    group: Mapped[str | None] = mapped_column("group_name")  # GROUP is a word of SQL


class ArtifactRow(Base):
    """An immutable file; ``purged_at`` is set when only its bytes were deleted."""

    __tablename__ = "artifacts"
    __table_args__ = (
        _digest(),
        _check("kind_not_empty", "length(kind) > 0"),
        _check("bytes", "bytes >= 0"),
    )
    digest: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[str]
    purged_at: Mapped[str | None]


class RunRow(Base):
    """What made something: the root of every lineage question."""

    __tablename__ = "runs"
    __table_args__ = (
        _check("kind_not_empty", "length(kind) > 0"),
        _check("seconds", "seconds >= 0"),
        Index(None, "kind"),  # a generation counts the runs of one kind
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    config: Mapped[Any]
    seed: Mapped[int] = mapped_column(BigInteger)
    environment: Mapped[Any]
    data: Mapped[Any]
    backbone_digest: Mapped[str] = mapped_column(_restrict("backbones.digest"))
    seconds: Mapped[float]
    created_at: Mapped[str]


class ExpertRow(Base):
    """A frozen expert. Its labels are its own: a task's row keeps those of version 1."""

    __tablename__ = "experts"
    __table_args__ = (
        _check("kind_not_empty", "length(kind) > 0"),
        _check("version", "version >= 1"),
        _check("sizes", "adapter_params >= 0 AND head_params >= 0 AND bytes >= 0"),
        UniqueConstraint("task_id", "version"),
        # Target of router_members' composite key, which pins the digest with the expert.
        UniqueConstraint("id", "digest"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(_restrict("tasks.id"))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(_restrict("artifacts.digest"))
    adapter_params: Mapped[int]
    head_params: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[tuple[str, ...]]
    kind: Mapped[str]
    run_id: Mapped[int] = mapped_column(_restrict("runs.id"))
    created_at: Mapped[str]


class FeatureSetRow(Base):
    """What is kept of one expert's rows; with their statistics all lineage ``gc`` may delete."""

    __tablename__ = "feature_sets"
    __table_args__ = (
        _digest("feature_spec_digest"),
        _check("sizes", "dimension >= 1 AND n_train >= 0 AND n_eval >= 0 AND bytes >= 0"),
    )
    expert_id: Mapped[int] = mapped_column(
        _restrict("experts.id"), primary_key=True, autoincrement=False
    )
    digest: Mapped[str] = mapped_column(_restrict("artifacts.digest"))
    feature_spec_digest: Mapped[str]
    dimension: Mapped[int]
    n_train: Mapped[int]
    n_eval: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)


class StatisticsRow(Base):
    """Exact sums over one expert's training rows; ``gc`` deletes them with its features."""

    __tablename__ = "statistics"
    __table_args__ = (
        _digest("feature_spec_digest"),
        _check("sizes", "dimension >= 1 AND width >= 1 AND rows >= 1 AND bytes >= 0"),
    )
    expert_id: Mapped[int] = mapped_column(
        _restrict("experts.id"), primary_key=True, autoincrement=False
    )
    digest: Mapped[str] = mapped_column(_restrict("artifacts.digest"))
    feature_spec_digest: Mapped[str]
    dimension: Mapped[int]
    width: Mapped[int]
    projection: Mapped[str | None]
    rows: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)


class RouterRow(Base):
    """A fitted gate; the digest covers the gate and its membership list."""

    __tablename__ = "routers"
    __table_args__ = (
        _digest("feature_spec_digest"),
        _check("version", "version >= 1"),
        _check("params", "params >= 0"),
        UniqueConstraint("version"),
        UniqueConstraint("digest"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    kind: Mapped[str]
    digest: Mapped[str] = mapped_column(_restrict("artifacts.digest"))
    params: Mapped[int]
    feature_spec_digest: Mapped[str]
    metrics: Mapped[Any] = mapped_column(Figures())
    run_id: Mapped[int] = mapped_column(_restrict("runs.id"))
    created_at: Mapped[str]


class RouterMemberRow(Base):
    """One expert of a router, at ``position`` of its members, pinned with digest and group."""

    __tablename__ = "router_members"
    __table_args__ = (
        _check("position", "position >= 0"),
        UniqueConstraint("router_id", "expert_id"),
        ForeignKeyConstraint(
            ["expert_id", "expert_digest"],
            ["experts.id", "experts.digest"],
            ondelete="RESTRICT",
        ),
    )
    router_id: Mapped[int] = mapped_column(_restrict("routers.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    expert_id: Mapped[int]
    expert_digest: Mapped[str]
    group: Mapped[str | None] = mapped_column("group_name")


class AliasRow(Base):
    """A movable name for a router."""

    __tablename__ = "aliases"
    __table_args__ = (_check("name_length", "length(name) BETWEEN 1 AND 64"),)
    name: Mapped[str] = mapped_column(primary_key=True)
    router_version: Mapped[int] = mapped_column(_restrict("routers.version"))


class AliasEventRow(Base):
    """One move of an alias; only ever appended."""

    __tablename__ = "alias_events"
    __table_args__ = (_check("name_length", "length(name) BETWEEN 1 AND 64"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    router_version: Mapped[int] = mapped_column(_restrict("routers.version"))
    previous_version: Mapped[int | None] = mapped_column(_restrict("routers.version"))
    reason: Mapped[str]
    created_at: Mapped[str]


class EvaluationRow(Base):
    """One measurement; ``router_version`` is null for the oracle (named expert)."""

    __tablename__ = "evaluations"
    __table_args__ = (
        _check("counts", "n >= 0 AND correct >= 0 AND correct <= n"),
        Index(None, "expert_id", "router_version"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    expert_id: Mapped[int] = mapped_column(_restrict("experts.id"))
    router_version: Mapped[int | None] = mapped_column(_restrict("routers.version"))
    n: Mapped[int]
    correct: Mapped[int]
    artifact_digest: Mapped[str] = mapped_column(_restrict("artifacts.digest"))
    metrics: Mapped[Any] = mapped_column(Figures())
    environment: Mapped[Any]
    created_at: Mapped[str]


class ExportRow(Base):
    """A bundle that was written; its digest names no artifact, the bundle lives elsewhere."""

    __tablename__ = "exports"
    __table_args__ = (_digest(), _check("format_not_empty", "length(format) > 0"))
    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]
    format: Mapped[str]
    path: Mapped[str]
    router_version: Mapped[int] = mapped_column(_restrict("routers.version"))
    experts: Mapped[tuple[str, ...]]
    created_at: Mapped[str]
