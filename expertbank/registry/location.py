"""What this program's own places for registries can do beside opening one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from expertbank.registry.registry import RegistryLocation


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What ``upgrade`` did: revisions before and after, and where the backup lies, if any."""

    before: str
    after: str
    backup: Path | None


class UpgradableLocation(RegistryLocation, Protocol):
    """A place whose registry may be of an earlier revision."""

    def revision(self) -> str | None:
        """Revision of the registry; ``None`` where there is none.

        Raises:
            IntegrityError: what is there is something else.
        """

    def upgrade(self, *, backup: bool = True) -> Upgrade:
        """Bring the registry to this program's revision in one transaction.

        Raises:
            NotFoundError: there is no registry.
            SchemaTooNewError: a newer expertbank wrote it; nothing was written.
        """
        ...

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Numbers of rows of tables, whose names come from this program."""
        ...
