"""Who may be named to answer: the experts of a bank, or of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from expertbank.artifacts.bundle import BundledExpert, BundleReader
from expertbank.data import TaskSpec
from expertbank.errors import NotFoundError, StaleError
from expertbank.kinds import KINDS
from expertbank.workflows.active_router import active_router, groups_of
from expertbank.workflows.answering.decision import Answerer
from expertbank.workflows.workspace import Workspace


class Experts(Protocol):
    """Who may be named to answer, asked for one at a time: a bank may hold ten thousand."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be named, by name."""

    def named(self, task: str) -> Answerer:
        """The expert that answers when ``task`` is named; ``NotFoundError`` without one."""

    def group(self, name: str) -> tuple[str, ...]:
        """The tasks of a group that can be named, by name; none where no group is called so."""

    def data_spec(self, expert: Answerer) -> TaskSpec:
        """How to read rows of an expert's task: the columns and labels it was trained on."""


def answerers(experts: Experts, name: str) -> tuple[Answerer, ...]:
    """Who answers when a task or a group is named.

    Raises:
        NotFoundError: neither is called so.
    """
    try:
        return (experts.named(name),)
    except NotFoundError:
        tasks = experts.group(name)
        if not tasks:
            raise
    return tuple(map(experts.named, tasks))


@dataclass(frozen=True, slots=True)
class BundledExperts:
    """The experts of a bundle, as the manifest told of them when it was opened."""

    reader: BundleReader
    by_task: Mapping[str, BundledExpert]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be named, by name."""
        return tuple(sorted(self.by_task))

    def named(self, task: str) -> Answerer:
        """See ``Experts``."""
        if task not in self.by_task:
            raise NotFoundError.of("task", task, self.tasks)
        return Answerer.of(self.by_task[task])

    def group(self, name: str) -> tuple[str, ...]:
        """See ``Experts``."""
        entries = self.reader.manifest.content["experts"]
        own = {entry["task"] for entry in entries if entry.get("group") == name}
        return tuple(task for task in self.tasks if task in own)

    def data_spec(self, expert: Answerer) -> TaskSpec:
        """See ``Experts``."""
        KINDS.get(expert.kind)  # says its name, where it is not installed
        for entry in self.reader.manifest.content["experts"]:
            if entry["digest"] == expert.digest:
                return TaskSpec.from_dict(entry.get("spec"), f"{self.reader.folder}: {expert.id}")
        raise NotFoundError.of("task in the bundle", expert.task, self.tasks)


@dataclass(frozen=True, slots=True)
class BankExperts:
    """The experts of a bank, looked up as they are needed; none is remembered by its name."""

    workspace: Workspace

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that can be named, by name."""
        return self.workspace.registry.member_tasks()

    def named(self, task: str) -> Answerer:
        """See ``Experts``."""
        return Answerer.of(self.workspace.registry.member(task))

    def group(self, name: str) -> tuple[str, ...]:
        """See ``Experts``."""
        registry = self.workspace.registry
        groups = groups_of(registry, active_router(registry))
        return tuple(task for task in self.tasks if groups.get(task) == name)

    def data_spec(self, expert: Answerer) -> TaskSpec:
        """See ``Experts``."""
        record = self.workspace.registry.expert(expert.id)
        if record.digest != expert.digest:
            raise StaleError(f"{expert.id} is another expert now; run the command again")
        return self.workspace.data_of(record)[0]
