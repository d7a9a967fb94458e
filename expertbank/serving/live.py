"""What a server answers with: one frozen state, loaded aside and swapped whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jinja2 import TemplateError

from expertbank.data import TaskSpec
from expertbank.errors import InputError, NotFoundError
from expertbank.reports.forgetting import ForgettingReport
from expertbank.routing.columns import Member
from expertbank.serving.asking import AUTO, Ask
from expertbank.workflows.answering.decision import Answerer, Decision, Named
from expertbank.workflows.answering.experts import Experts
from expertbank.workflows.answering.predict import Predictor
from expertbank.writing import Writing


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
        group: the one that the router was fitted with, if the task is in one.
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
class KnownExperts:
    """The experts of one state: who is named is who was there when it was loaded.

    Attributes:
        newest: what answers when a task is named.
        origin: the experts of the place they are from.
    """

    newest: Mapping[str, Answerer]
    origin: Experts

    @property
    def tasks(self) -> tuple[str, ...]:
        """See ``Experts``."""
        return tuple(sorted(self.newest))

    def named(self, task: str) -> Answerer:
        """See ``Experts``."""
        found = self.newest.get(task)
        if found is None:
            raise NotFoundError.of("task", task, self.tasks)
        return found

    def group(self, name: str) -> tuple[str, ...]:
        """See ``Experts``."""
        return tuple(task for task in self.origin.group(name) if task in self.newest)

    def data_spec(self, expert: Answerer) -> TaskSpec:
        """See ``Experts``."""
        return self.origin.data_spec(expert)


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
        writings: how the answers of the experts that the router chooses are written, by digest;
            without those that have a head.
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
    writings: Mapping[str, Writing]
    _by_name: dict[str, ModelInfo] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {model.name: model for model in self.models})

    @property
    def needed(self) -> tuple[Answerer | Member, ...]:
        """The experts to hold in memory: those the router chooses, and the newest of each task."""
        router = self.predictor.router
        found: list[Answerer | Member] = [] if router is None else list(router.members)
        found += [self.predictor.experts.named(task) for task in self.predictor.tasks]
        return tuple({one.digest: one for one in found}.values())

    def model(self, name: str, version: int | None = None) -> ModelInfo:
        """The model of this name, and of this version if one is named.

        Raises:
            NotFoundError: no such model, or not in this version; near names are listed.
        """
        found = self._by_name.get(name)
        if found is None:
            raise NotFoundError.of("model", name, tuple(self._by_name))
        if version is not None and version not in found.versions:
            known = ", ".join(map(str, found.versions)) or "none; leave the version out"
            raise NotFoundError(f"model {name!r} has no version {version}; known: {known}")
        return found

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt that the backbone's own chat template makes of messages.

        Raises:
            InputError: its tokenizer has no template, or one that refuses these messages.
        """
        tokenizer = self.predictor.model.backbone.tokenizer
        if not getattr(tokenizer, "chat_template", None):
            raise InputError("the backbone's tokenizer has no chat template; ask for completions")
        try:
            prompt: str = tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise InputError(f"the chat template refuses these messages: {error}") from error
        return prompt

    def decision(self, ask: Ask, *, second_opinion: bool = False) -> Decision:
        """Who answers the rows of ``ask``.

        Args:
            ask: the request.
            second_opinion: where it is routed, ask both experts where the two best lie close.

        Raises:
            NotFoundError: no such model or version, no router, or one that knows no unknown rows.
            InputError: options that exclude each other.
            IntegrityError: a named expert's file is damaged.
        """
        predictor = self.predictor
        if ask.model == AUTO:
            if ask.version is not None:
                self.model(AUTO, ask.version)
            return predictor.decision(
                abstain=ask.abstain, fallback=ask.fallback, second_opinion=second_opinion
            )
        if ask.abstain or ask.fallback is not None:
            raise InputError(
                f"only the model {AUTO!r} can abstain or take a fallback; {ask.model!r} was named"
            )
        return Named.of(*map(predictor.checked, self.named(ask)))

    def named(self, ask: Ask) -> list[Answerer]:
        """The experts that the caller of ``ask`` names: to answer, or as the fallback.

        Raises:
            NotFoundError: no such model or version.
        """
        experts = self.predictor.experts
        if ask.model == AUTO:
            return [] if ask.fallback is None else [experts.named(ask.fallback)]
        model = self.model(ask.model, ask.version)
        if model.newest is None:
            return [experts.named(task) for task in model.tasks]
        return [self.experts[model.name, ask.version or model.newest]]


class Source(Protocol):
    """Where states come from: a bank, or a bundle."""

    @property
    def report(self) -> Callable[[], ForgettingReport] | None:
        """Makes the forgetting report from stored evidence; ``None`` where there is none."""

    def load(self, earlier: ServingState | None) -> ServingState:
        """A new state of what is there now; slow. The server warms it.

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
