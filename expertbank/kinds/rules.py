"""How a task's raw labels are named, and one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class LabelRules:
    """How a task's raw labels become those that rows carry.

    Attributes:
        labels: names in their fixed order; empty: whatever the training rows have.
        names: raw label to shown name; a label that is not in it is shown as it is.
        drop: raw labels whose rows are left out, of several labels any; ``None`` is the missing
            one.
        separator: what parts several labels in one text.
        flags: one column of 0 and 1 for each label.
    """

    labels: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str | None, ...] = ()
    separator: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """The labels there are; empty where any may come."""
        kept = (flag for flag in self.flags if flag not in self.drop)
        return self.labels or tuple(dict.fromkeys(self.names.get(flag, flag) for flag in kept))


@dataclass(frozen=True, slots=True)
class RawLabel:
    """What a record says of its label, and by what it is read.

    Attributes:
        value: from ``Kind.raw_label``.
        rules: the task's.
        choices: the row's own choices, if it brings any.
        keys: names that the data has for them.
        origin: ``file:line``.
    """

    value: Any
    rules: LabelRules
    choices: tuple[str, ...]
    keys: tuple[str, ...]
    origin: str
