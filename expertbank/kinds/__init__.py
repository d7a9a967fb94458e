"""Kinds of task: one file each, and a name under which anyone may add one more.

Importing the room is light: a kind is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expertbank.kinds.rules import LabelRules
from expertbank.plugins import Plugins

if TYPE_CHECKING:
    from expertbank.kinds.kind import Kind

__all__ = ["DEFAULT_KIND", "KINDS", "LabelRules", "kind_for"]

DEFAULT_KIND = "classification"
"""The kind of a task that names none."""

KINDS: Plugins[Kind] = Plugins(
    "task kind",
    "expertbank.kinds",
    base="expertbank.kinds.kind:Kind",
    own={
        "classification": "expertbank.kinds.classification:CLASSIFICATION",
        "multi_label": "expertbank.kinds.multi_label:MULTI_LABEL",
        "multiple_choice": "expertbank.kinds.multiple_choice:MULTIPLE_CHOICE",
        "regression": "expertbank.kinds.regression:REGRESSION",
    },
)


def kind_for(name: str, *, choices: bool, rules: LabelRules) -> str:
    """The kind that the columns someone named can only mean; ``name`` where any may."""
    known = [name, *KINDS.names()]
    return next((k for k in known if KINDS.get(k).claims(choices=choices, rules=rules)), name)
