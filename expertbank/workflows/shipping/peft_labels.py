"""Which of a head's outputs is which label: told, or shown by rows, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from expertbank.data import TaskSpec, task_spec
from expertbank.errors import InputError
from expertbank.evaluation.label_order import Order, order_of
from expertbank.kinds import DEFAULT_KIND, KINDS
from expertbank.kinds.labels import joined
from expertbank.models.routed import RoutedModel
from expertbank.records import ProgressCallback
from expertbank.workflows.growing.jobs import AddJob
from expertbank.workflows.measure import answers
from expertbank.workflows.shipping.peft_folder import PeftFolder

LabelsFrom = Literal["given", "export", "config", "data"]
"""Who named the outputs: the user, the bank that exported them, the model's configuration, or the
rows that show their order."""
ROWS, ROWS_A_LABEL = 500, 40
"""Training rows that an order of labels is held against: so many, or more where labels are many."""


@dataclass(frozen=True, slots=True)
class Named:
    """A task whose labels stand in the order of a head's outputs.

    Attributes:
        task: the task.
        source: who named them.
    """

    task: TaskSpec
    source: LabelsFrom

    @property
    def labels(self) -> tuple[str, ...]:
        """Those that are told; empty where the data is to say."""
        return self.task.labels


def named(found: PeftFolder, given: tuple[str, ...], task: TaskSpec | str, *, fit: bool) -> Named:
    """The task with the labels that its adapter or its user names.

    Raises:
        InputError: labels that are not the task's, or a task of another kind.
    """
    spec = task if isinstance(task, TaskSpec) else task_spec(task)
    own = None if fit else found.own_head
    if own is not None and own.kind != spec.kind:
        if spec.kind != DEFAULT_KIND or own.kind not in KINDS.names():
            raise InputError(
                f"{found.where} is an expert of kind {own.kind}, not {spec.kind}; leave --kind out"
            )
        spec = replace(spec, kind=own.kind)
    if not KINDS.get(spec.kind).names_labels:
        if given:
            raise InputError(f"a task of kind {spec.kind} has no labels to name")
        return Named(spec, "data")
    source: LabelsFrom
    if len(set(given)) < len(given):
        raise InputError(f"labels are repeated: {list(given)}")
    if given:
        source, labels = "given", given
    elif own is not None:
        source, labels = "export", own.labels
    elif found.labels and found.saved and not fit:
        source, labels = "config", found.labels
    else:
        return Named(spec, "data")
    if spec.labels and set(spec.labels) != set(labels):
        raise InputError(
            f"{found.where}: its labels are {joined(labels)}, and those of task {spec.name} are "
            f"{joined(spec.labels)}; name its outputs as the task does with --labels"
        )
    return Named(replace(spec, labels=labels), source)


def require_order(
    model: RoutedModel, job: AddJob, naming: Named, where: str, progress: ProgressCallback
) -> list[str]:
    """Hold the order of the labels against training rows.

    Returns:
        What is odd about labels that somebody named.

    Raises:
        InputError: nobody named them, and the rows do not show their order.
    """
    task = job.entry.task
    if not KINDS.get(task.kind).names_labels:
        return []
    if KINDS.get(task.kind).has_thresholds:
        if naming.source == "data":
            raise InputError(
                f"{where}: nothing says which of its outputs is which label; name them in the "
                "order of the outputs with --labels"
            )
        return []
    rows = job.train[: max(ROWS, ROWS_A_LABEL * len(task.labels))]
    found = answers(model, rows, job.entry.id, progress)
    targets = np.array(found.targets, dtype=np.int64)
    order = order_of(found.logits.argmax(1).numpy(), targets, len(task.labels))
    told = _told(order, task.labels)
    if naming.source == "data" and not order.shown:
        raise InputError(
            f"{where}: nothing says which of its outputs is which label, and the training rows do "
            f"not show it: {told}. Name them in the order of the outputs with --labels"
        )
    return [f"its labels fit better in another order: {told}"] if order.refuted else []


def _told(order: Order, labels: tuple[str, ...]) -> str:
    best = tuple(labels[place] for place in order.best)
    given = f"{order.right} of {order.rows} are right in the order {joined(labels)}"
    return given if best == labels else f"{given}, {order.best_right} in the order {joined(best)}"
