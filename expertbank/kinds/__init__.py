"""Kinds of task: one file each, and a name under which anyone may add one more.

Derive yours from ``Kind`` and add it with ``KINDS.register("name", YourKind())`` or with an entry
point of the group ``expertbank.kinds``. Importing the room is light: ``Kind`` and what goes with
it are imported when first asked for, and so is each kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from expertbank.errors import InputError, NotFoundError
from expertbank.kinds.rules import LabelRules, RawLabel
from expertbank.plugins import Plugins, unlike

if TYPE_CHECKING:
    from expertbank.evaluation.outcome import Correlated, Counted, Outcome
    from expertbank.evaluation.predictions import Predictions
    from expertbank.kinds.answer import Answer
    from expertbank.kinds.kind import TOLERANCE, Kind
    from expertbank.kinds.objective import Objective
    from expertbank.kinds.probe import probe_flags, probe_head, probe_value

__all__ = [
    "DEFAULT_KIND",
    "EXTERNAL_KIND",
    "KINDS",
    "TOLERANCE",
    "Answer",
    "Correlated",
    "Counted",
    "Kind",
    "LabelRules",
    "Objective",
    "Outcome",
    "Predictions",
    "RawLabel",
    "adapter_elsewhere",
    "kind_for",
    "probe_flags",
    "probe_head",
    "probe_value",
]

DEFAULT_KIND = "classification"
"""The kind of a task that names none."""

EXTERNAL_KIND = "external"
"""The kind of a task that an adapter of another program answers."""

_HOMES = {
    **dict.fromkeys(("TOLERANCE", "Kind"), "kinds.kind"),
    "Answer": "kinds.answer",
    "Objective": "kinds.objective",
    **dict.fromkeys(("Correlated", "Counted", "Outcome"), "evaluation.outcome"),
    **dict.fromkeys(("probe_flags", "probe_head", "probe_value"), "kinds.probe"),
    "Predictions": "evaluation.predictions",
}


def _complaint(name: str, plugin: object) -> str | None:
    from expertbank.kinds.kind import Kind

    return plugin.complaint(name) if isinstance(plugin, Kind) else unlike(plugin, Kind)


KINDS: Plugins[Kind] = Plugins(
    "task kind",
    "expertbank.kinds",
    own={
        "classification": "expertbank.kinds.classification:CLASSIFICATION",
        "multi_label": "expertbank.kinds.multi_label:MULTI_LABEL",
        "multiple_choice": "expertbank.kinds.multiple_choice:MULTIPLE_CHOICE",
        "regression": "expertbank.kinds.regression:REGRESSION",
        "generation": "expertbank.kinds.generation:GENERATION",
        "external": "expertbank.kinds.external:EXTERNAL",
    },
    complaint=_complaint,
)
"""All kinds of task by name."""


def kind_for(name: str, *, choices: bool, rules: LabelRules) -> str:
    """The kind that the columns someone named can only mean; ``name`` where any may."""
    if not (choices or rules.flags or rules.separator):
        return name  # without a look at the kinds, which would import them
    claiming = [k for k, kind in KINDS.usable() if kind.claims(choices=choices, rules=rules)]
    return name if name in claiming else next(iter(claiming), name)


def adapter_elsewhere(kind: str, labels: Sequence[str]) -> str | None:
    """What the adapter of another program that answers a task is called there.

    Args:
        kind: name of the task's kind.
        labels: the expert's.

    Returns:
        ``None`` where the expert answers itself, and for a kind that is not installed.
    """
    try:
        found = KINDS.get(kind)
    except (InputError, NotFoundError):
        return None
    return labels[0] if found.elsewhere else None


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"expertbank.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
