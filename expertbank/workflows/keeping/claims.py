"""What rows say of files, held against what the files' headers say: no torch is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from expertbank.evaluation.predictions import NOT_BY_ROW
from expertbank.files.header import Header
from expertbank.records import (
    EvaluationRecord,
    ExpertRecord,
    FeatureSetRecord,
    Problem,
    StatisticsRecord,
)
from expertbank.registry.registry import Registry

RESTORE_FILE = "restore the file from a backup of the bank"
RESTORE_DATABASE = "restore the database from a backup: expertbank db restore FILE"
ORACLE, ROUTED = {"logits", "targets", "row_digests"}, {"choice"}
"""Tensors that evidence has, of answers with the expert named and of a router's choices."""


@dataclass(slots=True)
class Claims:
    """What rows say of one file: a router's members are named with their digests."""

    experts: list[ExpertRecord] = field(default_factory=list)
    features: list[FeatureSetRecord] = field(default_factory=list)
    statistics: list[StatisticsRecord] = field(default_factory=list)
    evidence: list[EvaluationRecord] = field(default_factory=list)
    routers: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)

    @property
    def sizes(self) -> set[int]:
        """Bytes that the file has by these rows."""
        by_experts = {expert.bytes for expert in self.experts}
        by_features = {features.bytes for features in self.features}
        return by_experts | by_features | {statistics.bytes for statistics in self.statistics}

    def complaints(self, header: Header) -> Iterator[Problem]:
        """Where the file says something else than its rows."""
        for expert in self.experts:
            yield from _of_expert(expert, header)
        for features in self.features:
            yield from _of_features(features, header)
        for statistics in self.statistics:
            yield from _of_statistics(statistics, header)
        for evaluation in self.evidence:
            yield from _of_evaluation(evaluation, header)
        for version, members in self.routers:
            yield from _of_router(f"router@{version}", members, header)


def claims_of(registry: Registry) -> Mapping[str, Claims]:
    """What the registry says, by digest of the file."""
    found: dict[str, Claims] = {}
    for expert in registry.experts():
        found.setdefault(expert.digest, Claims()).experts.append(expert)
    for features in registry.feature_sets():
        found.setdefault(features.digest, Claims()).features.append(features)
    for statistics in registry.statistics():
        found.setdefault(statistics.digest, Claims()).statistics.append(statistics)
    for evaluation in registry.evaluations():
        found.setdefault(evaluation.artifact_digest, Claims()).evidence.append(evaluation)
    experts = {expert.id: expert.digest for expert in registry.experts()}
    for router in registry.routers():
        members = [(name, experts[name]) for name in router.members]
        found.setdefault(router.digest, Claims()).routers.append((router.version, members))
    return found


def _of_expert(expert: ExpertRecord, header: Header) -> Iterator[Problem]:
    sizes = {name: prod(shape) for name, shape in header.shapes.items()}
    head = sum(
        size
        for name, size in sizes.items()
        if name.startswith("head.") and name != "head.threshold"
    )
    adapter = sum(size for name, size in sizes.items() if not name.startswith("head."))
    facts = header.metadata
    compared = {
        "task": (facts.get("task"), expert.task),
        "kind": (facts.get("kind"), expert.kind),
        "labels": (facts.get("labels"), list(expert.labels)),
        "numbers in its adapter": (adapter, expert.adapter_params),
        "numbers in its head": (head, expert.head_params),
    }
    for name, (found, said) in compared.items():
        if found != said:
            what = f"{name} of {expert.id}: its file has {found!r}, the row says {said!r}"
            yield Problem(what, expert.digest, RESTORE_DATABASE)


def _of_evaluation(evaluation: EvaluationRecord, header: Header) -> Iterator[Problem]:
    routed = evaluation.router_version is not None
    of = evaluation.expert_id + (f" under router@{evaluation.router_version}" if routed else "")
    digest = evaluation.artifact_digest
    if (ROUTED if routed else ORACLE) - set(header.shapes):
        what = f"the evaluation of {of} names a file that is not its evidence row by row"
        yield Problem(what, digest, RESTORE_DATABASE)
        return
    by_row = (shape for name, shape in header.shapes.items() if name not in NOT_BY_ROW)
    found = {shape[0] for shape in by_row if shape}
    if found != {evaluation.n}:
        what = f"the evaluation of {of} counts {evaluation.n} rows, its file holds {sorted(found)}"
        yield Problem(what, digest, RESTORE_DATABASE)


def _of_features(features: FeatureSetRecord, header: Header) -> Iterator[Problem]:
    expected = {
        "train": (features.n_train, features.dimension),
        "evaluation": (features.n_eval, features.dimension),
    }
    for name, shape in expected.items():
        found = header.shapes.get(name)
        if found is not None and found != shape:
            what = f"{name} features of {features.expert_id} are {found}, the row says {shape}"
            yield Problem(what, features.digest, RESTORE_DATABASE)
    spec = header.metadata.get("feature_spec_digest")
    if spec != features.feature_spec_digest:
        what = f"features of {features.expert_id} follow spec {spec}, the row says another"
        yield Problem(what, features.digest, RESTORE_DATABASE)


def _of_statistics(statistics: StatisticsRecord, header: Header) -> Iterator[Problem]:
    facts, owner = header.metadata, statistics.expert_id
    if header.shapes.get("total") != (statistics.width,):
        what = f"statistics of {owner} are of another width than the row's {statistics.width}"
        yield Problem(what, statistics.digest, RESTORE_DATABASE)
    if facts.get("feature_spec_digest") != statistics.feature_spec_digest:
        what = f"statistics of {owner} follow another feature spec than the row says"
        yield Problem(what, statistics.digest, RESTORE_DATABASE)
    if facts.get("count", statistics.rows) != statistics.rows:
        what = f"statistics of {owner} are of {facts['count']} rows, the row says {statistics.rows}"
        yield Problem(what, statistics.digest, RESTORE_DATABASE)


def _of_router(where: str, rows: list[tuple[str, str]], header: Header) -> Iterator[Problem]:
    """The file's members, by name and digest, are those of the rows, in the same order."""
    try:
        inside = [(str(member[0]), str(member[1])) for member in header.metadata["members"]]
    except (KeyError, IndexError, TypeError):
        yield Problem("its file names no members", where, RESTORE_FILE)
        return
    if inside != rows:
        what = (
            f"its file is over {', '.join(name for name, _ in inside)}, its rows over "
            f"{', '.join(name for name, _ in rows)}, or their digests differ"
        )
        yield Problem(what, where, RESTORE_DATABASE)
