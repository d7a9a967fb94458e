"""Choices of routers where the bank keeps no evaluation features: the source is read again."""

from __future__ import annotations

from collections.abc import Sequence

from expertbank.data import encode_rows
from expertbank.evaluation.history import RouterView
from expertbank.evaluation.outcome import Answered
from expertbank.kinds import KINDS
from expertbank.records import ExpertRecord, ProgressCallback, RouterRecord
from expertbank.workflows.proving.source_rows import rows_again
from expertbank.workflows.workspace import Workspace


def views_from_source(
    workspace: Workspace,
    expert: ExpertRecord,
    oracle: Answered,
    routers: Sequence[RouterRecord],
    progress: ProgressCallback,
) -> tuple[tuple[RouterView, ...], str | None]:
    """What routers that contain the expert choose for its evaluation rows.

    Runs the trunk over the rows once. Empty if a row is gone from the source, and then why it is
    and what to do: figures over other rows than those of the first day would not be comparable.
    """
    if not routers:
        return (), None
    rows, why = rows_again(workspace, expert, oracle.row_digests, progress)
    found = [row for row in rows if row is not None]
    if why is not None:
        return (), why
    from expertbank.workflows.choices import routed
    from expertbank.workflows.measure import trunk_features

    encoded = encode_rows(
        found,
        workspace.backbone.tokenizer,
        KINDS.get(expert.kind),
        expert.labels,
        workspace.spec.max_length,
    )
    features = trunk_features(workspace.model, encoded, progress)
    views = []
    for record in routers:
        router = workspace.router(record)
        chosen, _ = routed(router, features, [row.shape for row in found])
        columns = tuple(tuple(member.task for member in column) for column in router.columns)
        views.append(RouterView(record.version, columns, chosen.choice))
    return tuple(views), None
