"""Kinds of task: one file each, and a name under which anyone may add one more."""

from __future__ import annotations

from expertbank.kinds.kind import Answer, Kind, LabelRules, Objective
from expertbank.plugins import Plugins

__all__ = ["DEFAULT_KIND", "KINDS", "Answer", "Kind", "LabelRules", "Objective", "kind_for"]

DEFAULT_KIND = "classification"
"""The kind of a task that names none."""

KINDS: Plugins[Kind] = Plugins(
    "task kind",
    "expertbank.kinds",
    needed=sorted(name for name in vars(Kind) if not name.startswith("_")),
    own={
        "classification": "expertbank.kinds.classification:CLASSIFICATION",
        "multiple_choice": "expertbank.kinds.multiple_choice:MULTIPLE_CHOICE",
        "multi_label": "expertbank.kinds.multi_label:MULTI_LABEL",
        "regression": "expertbank.kinds.regression:REGRESSION",
    },
)


def kind_for(name: str, *, choices: bool, rules: LabelRules) -> str:
    """The kind that the columns someone named can only mean; ``name`` where any may."""
    known = [name, *KINDS.names()]
    return next((k for k in known if KINDS.get(k).claims(choices=choices, rules=rules)), name)
