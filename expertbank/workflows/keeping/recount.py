"""``verify``: what evaluations say, counted again from their evidence as the report does.

The report can run rows again, too; this reads what is stored, and needs no torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from expertbank.artifacts.store import ArtifactStore
from expertbank.errors import MALFORMED, ExpertBankError, IntegrityError
from expertbank.evaluation.outcome import Answered
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import KINDS
from expertbank.kinds.kind import Kind
from expertbank.records import EvaluationRecord, ExpertRecord, Problem, RouterRecord
from expertbank.workflows.keeping.claims import RESTORE_DATABASE
from expertbank.workflows.proving.evidence import RESTORE, StoredChoices, same_count
from expertbank.workflows.workspace import Workspace


def of_evidence(workspace: Workspace, told: Collection[str]) -> Iterator[Problem]:
    """One evaluation by name for each expert, and counts and qualities that its evidence gives.

    Experts whose kind nothing here brings are left out.

    Args:
        workspace: the open bank.
        told: digests of files of which something was said already.
    """
    registry, store = workspace.registry, workspace.store
    unread = {one.digest for one in registry.artifacts() if one.purged_at is not None} | {*told}
    purged = set(registry.purged_experts())
    stored: defaultdict[str, list[EvaluationRecord]] = defaultdict(list)
    for evaluation in registry.evaluations():
        stored[evaluation.expert_id].append(evaluation)
    routers = registry.routers()
    choices = StoredChoices(workspace, routers)
    for expert in registry.experts():
        kind = _kind(expert)
        if expert.id in purged or kind is None:
            continue
        by_name = [one for one in stored[expert.id] if one.router_version is None]
        if len(by_name) != 1:
            what = f"{len(by_name)} evaluations with the expert named, expected one"
            yield Problem(what, expert.id, RESTORE_DATABASE)
        elif by_name[0].artifact_digest not in told:
            there = [one for one in stored[expert.id] if one.artifact_digest not in unread]
            yield from _of_expert(store, expert, kind, by_name[0], there, routers, choices)
    for router in routers:
        try:
            choices.check([router])
        except IntegrityError as error:
            yield _problem(error, f"router@{router.version}")


def _of_expert(
    store: ArtifactStore,
    expert: ExpertRecord,
    kind: Kind,
    by_name: EvaluationRecord,
    there: Sequence[EvaluationRecord],
    routers: Sequence[RouterRecord],
    choices: StoredChoices,
) -> Iterator[Problem]:
    try:
        oracle = _answered(store, expert, kind, by_name)
    except IntegrityError as error:
        yield _problem(error, expert.id)
        return
    versions = {one.router_version for one in there}
    for router in routers:
        if router.version in versions:
            try:
                choices.view(expert, oracle, router)
            except IntegrityError as error:
                yield _problem(error, expert.id)


def _answered(
    store: ArtifactStore, expert: ExpertRecord, kind: Kind, stored: EvaluationRecord
) -> Answered:
    """What the stored answers came to.

    Raises:
        IntegrityError: they cannot be read, or come to something else than the row says.
    """
    data = store.get(stored.artifact_digest)
    predictions = Predictions.from_bytes(data, f"answers of {expert.id}")
    try:
        outcome = kind.outcome(predictions)
        correct, quality = outcome.correct(), outcome.quality()
    except MALFORMED as error:
        raise IntegrityError(
            f"{expert.id}: its stored answers are not those of a {expert.kind} task"
        ) from error
    same_count(expert.id, "the expert named", stored.correct, correct)
    said = stored.metrics.get(outcome.metric)
    if said != quality:
        raise IntegrityError(
            f"{expert.id}: with the expert named the registry says {outcome.metric} {said}, the "
            f"stored evidence gives {quality}"
        )
    return Answered(outcome, predictions.row_digests, predictions.clusters)


def _kind(expert: ExpertRecord) -> Kind | None:
    try:
        return KINDS.get(expert.kind)
    except ExpertBankError:
        return None


def _problem(error: IntegrityError, where: str) -> Problem:
    return Problem(str(error).removesuffix(f"; {RESTORE}"), where, RESTORE_DATABASE)
