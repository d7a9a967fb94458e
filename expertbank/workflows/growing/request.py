"""What a user asks of ``add``: one value from the command line, or from Python, to the work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expertbank.config import AdapterConfig, BankConfig, TrainConfig, TuneConfig
from expertbank.data import TaskSpec, task_spec
from expertbank.plain import typed
from expertbank.settings import setting

SETTINGS: Mapping[str, Any] = {
    "adapter": AdapterConfig,
    "train": TrainConfig,
    "bank": BankConfig,
    "tune": TuneConfig,
}
"""The fields of a request that have settings of their own."""


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What to add and how; a field that is a setting is an option of ``add`` too.

    Attributes:
        task: a catalog name, a new name together with ``data``, or a spec.
        data: the user's source reference, ``None`` for the task's own.
        adapter: shape of the adapter.
        train: how to train.
        group: name of the group of tasks that answer the same texts, if it is one of them. For a
            new task: that of a known one is changed by ``group_tasks``.
        new_version: whether a task that has an expert gets another.
        bank: what the bank shall be, or is.
        rehash: hash the backbone's files, whatever is remembered of them.
        tune: how to search for settings before training, if at all.
        resume: go on with an interrupted run of the same request, if there is one.

    Raises:
        InputError: settings of another type.
    """

    task: str | TaskSpec
    data: str | Path | None = setting(
        None,
        "Folder or file (.csv .tsv .jsonl .json .parquet, or .gz of it), - for standard input, "
        "hf:org/name[:config][@revision], or pkg:package/path.",
    )
    adapter: AdapterConfig | None = None
    train: TrainConfig | None = None
    group: str | None = setting(
        None,
        "Tasks of one group answer the same texts: all its experts answer. Of a task that is "
        "there `expertbank group` changes it.",
    )
    new_version: bool = setting(False, "Allow a further version of a known task.")
    bank: BankConfig | None = None
    rehash: bool = setting(False, "Hash the backbone's files, whatever is remembered.")
    tune: TuneConfig | None = None
    resume: bool = setting(False, "Go on with an interrupted run of this command.")

    def __post_init__(self) -> None:
        for name, kind in SETTINGS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, typed(kind, value, "settings", name, exact=True))

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name if isinstance(self.task, TaskSpec) else self.task

    @property
    def spec(self) -> TaskSpec:
        """The task in full, of a name what the catalog says."""
        return self.task if isinstance(self.task, TaskSpec) else task_spec(self.task)

    @property
    def search(self) -> TuneConfig | None:
        """The search for settings that comes before training, if one does."""
        return None if self.tune is None or self.tune.trials is None else self.tune
