"""A state made of what a source has read: whom it can ask, and how their answers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expertbank.clock import now
from expertbank.errors import InputError, NotFoundError
from expertbank.kinds import KINDS
from expertbank.routing.router import Router
from expertbank.serving.asking import AUTO
from expertbank.serving.live import KnownExperts, ModelInfo, ServingState
from expertbank.workflows.answering.decision import Answerer
from expertbank.workflows.answering.predict import Predictor
from expertbank.writing import Writing


@dataclass(frozen=True, slots=True)
class KnownTask:
    """What a source knows of one task.

    Attributes:
        experts: by version, oldest first; the last answers when the task is named.
        group: the one that the router was fitted with, if the task is in one.
        metrics: of the newest on its evaluation rows.
    """

    experts: Mapping[int, Answerer]
    group: str | None
    metrics: Mapping[str, Any]

    @property
    def newest(self) -> Answerer:
        """The expert that answers when the task is named."""
        return self.experts[max(self.experts)]


def state_of(
    earlier: ServingState | None,
    loaded: Predictor,
    tasks: Sequence[KnownTask],
    router_version: int | None,
    router_digest: str | None,
    fingerprint: str,
) -> ServingState:
    """The state that follows ``earlier``: a model, its router, and the tasks there are now.

    Reads the files of experts that write and that ``earlier`` does not know.

    Raises:
        IntegrityError: one of them is damaged.
    """
    newest = {task.newest.task: task.newest for task in tasks}
    return ServingState(
        1 if earlier is None else earlier.number + 1,
        loaded.over(KnownExperts(newest, loaded.experts)),
        router_version,
        router_digest,
        loaded.model.spec.backbone_digest,
        now(),
        _models(tasks, loaded.router, router_version, router_digest),
        fingerprint,
        {(one.task, version): one for task in tasks for version, one in task.experts.items()},
        _writings(loaded, earlier),
    )


def _models(
    tasks: Sequence[KnownTask],
    router: Router | None,
    router_version: int | None,
    router_digest: str | None,
) -> tuple[ModelInfo, ...]:
    """``auto`` if there is a router, then tasks by name, then groups by name.

    A group that is called as a task is, or ``auto``, cannot be asked by its name.
    """
    members = () if router is None else router.members
    routed = {member.task: member.id for member in members}
    found: dict[str, ModelInfo] = {}
    if router is not None:
        found[AUTO] = ModelInfo(
            AUTO,
            "router",
            () if router_version is None else (router_version,),
            router_version,
            digest=router_digest,
            tasks=tuple(sorted(routed)),
            shapes=tuple(sorted({shape for member in members for shape in member.reads})),
        )
    groups: dict[str, list[str]] = {}
    for task in sorted(tasks, key=lambda task: task.newest.task):
        expert = task.newest
        if task.group is not None:
            groups.setdefault(task.group, []).append(expert.task)
        found.setdefault(
            expert.task,
            ModelInfo(
                expert.task,
                expert.kind,
                tuple(task.experts),
                max(task.experts),
                expert.id,
                expert.digest,
                expert.labels,
                task.group,
                (expert.task,),
                routed.get(expert.task),
                _shapes(expert.kind),
                dict(task.metrics),
            ),
        )
    for group, names in sorted(groups.items()):
        shapes = [set(found[name].shapes) for name in names if name in found]
        own = tuple(sorted(set.intersection(*shapes))) if shapes else ()
        found.setdefault(group, ModelInfo(group, "group", tasks=tuple(names), shapes=own))
    return tuple(found.values())


def _writings(predictor: Predictor, earlier: ServingState | None) -> dict[str, Writing]:
    """See ``ServingState.writings``."""
    written = {name for name, kind in KINDS.usable() if kind.writes}
    known = {} if earlier is None else earlier.writings
    found: dict[str, Writing] = {}
    for member in () if predictor.router is None else predictor.router.members:
        if member.kind in written:
            own = known.get(member.digest) or predictor.model.pool.expert(member.digest).writing
            if own is not None:
                found[member.digest] = own
    return found


def _shapes(kind: str) -> tuple[str, ...]:
    """What a kind reads; of one that is not installed here nothing can be asked."""
    try:
        return tuple(sorted(KINDS.get(kind).shapes))
    except (NotFoundError, InputError):
        return ()
