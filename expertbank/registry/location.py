"""What upgrading a registry did, whatever database keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What ``upgrade`` did: revisions before and after, and where the backup lies, if any."""

    before: str
    after: str
    backup: Path | None
