"""What ``doctor`` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        state: ``problem`` stops some command from working, ``warning`` does not yet.
        found: what is the case.
        todo: what to do; empty when nothing is to do.
    """

    subject: str
    state: State
    found: str
    todo: str = ""
