"""What a server answers with: one frozen state, loaded aside and swapped whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from expertbank.serving.asking import Ask
from expertbank.workflows.answering.decision import Answerer, Decision
from expertbank.workflows.answering.predict import Predictor


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One name that can be asked.

    Attributes:
        name: ``auto``, a task, or a group.
        kind: of the task; ``router`` for ``auto``, ``group`` for a group.
        versions: that can be asked for, oldest first: of the task's experts, for ``auto`` the
            router's; empty for a group and for a router without a number.
        newest: the last of them; what answers where no version is named.
        expert: ``task@version`` of that; ``None`` for ``auto`` and groups.
        digest: of the expert's file, for ``auto`` of the router's; ``None`` for a group.
        labels: of that expert, in head order; empty where labels have no names.
        group: the task's group, if it has one.
        tasks: the tasks that may answer under this name, by name.
        routed: the expert that the router chooses for the task: may be older than ``expert``;
            ``None`` if it knows none.
        shapes: the shapes of row that the kind reads: ``single``, ``pair``, ``choices``.
        metrics: of that expert on its evaluation rows, as they were measured when it was added:
            ``n``, ``accuracy`` and ``majority`` among them. Empty for ``auto`` and groups.
    """

    name: str
    kind: str
    versions: tuple[int, ...] = ()
    newest: int | None = None
    expert: str | None = None
    digest: str | None = None
    labels: tuple[str, ...] = ()
    group: str | None = None
    tasks: tuple[str, ...] = ()
    routed: str | None = None
    shapes: tuple[str, ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServingState:
    """All that answers depend on, as it was at one moment; never changed.

    Attributes:
        number: counts the states of one server, from 1.
        predictor: its model, router and experts.
        router_version: of the bank's router, also where a bundle holds it; ``None`` without one.
        router_digest: of the router's file; ``None`` without a router.
        backbone_digest: of the backbone.
        loaded_at: when, UTC ISO-8601.
        models: every name that can be asked; ``auto`` first if there is a router.
        fingerprint: of what it was loaded from; what a source compares with.
        experts: every expert that can be asked for, by task and version.
    """

    number: int
    predictor: Predictor
    router_version: int | None
    router_digest: str | None
    backbone_digest: str
    loaded_at: str
    models: tuple[ModelInfo, ...]
    fingerprint: str
    experts: Mapping[tuple[str, int], Answerer]

    def model(self, name: str, version: int | None = None) -> ModelInfo:
        """The model of this name, and of this version if one is named.

        Raises:
            NotFoundError: no such model, or not in this version; near names are listed.
        """
        raise NotImplementedError

    def decision(self, ask: Ask) -> Decision:
        """Who answers the rows of ``ask``.

        Raises:
            NotFoundError: no such model or version, no router, or one that knows no unknown rows.
            InputError: options that exclude each other.
            IntegrityError: a named expert's file is damaged.
        """
        raise NotImplementedError


class Source(Protocol):
    """Where states come from: a bank, or a bundle."""

    def load(self, earlier: ServingState | None) -> ServingState:
        """A new state of what is there now, warmed; slow.

        Args:
            earlier: what is served; what has not changed is taken over from it.

        Raises:
            ExpertBankError: it cannot be loaded.
        """

    def changed(self, served: ServingState) -> bool:
        """Whether ``load`` would give another state than the one that is served; cheap.

        Raises:
            ExpertBankError: it cannot be told.
        """
