"""What was found out about backbones, so that it need not be again. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from expertbank.backbones.file_states import Seen
from expertbank.backbones.identity import Identity, fingerprint
from expertbank.errors import MALFORMED
from expertbank.files.durable import write_whole

DIGEST_CACHE = "backbone-digests.json"
_AGREEMENTS = "agreements"
"""Beside the folders, whose names are absolute paths."""


class DigestCache:
    """By folder the identity of its files as they were; by digest what the agreement check said.

    It only saves time: absent or damaged it means that nothing is known, and where it cannot be
    written, what was found out is found out anew next time.

    Args:
        path: the cache's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, folder: Path) -> Identity | None:
        """The identity worked out earlier, if it is proved that no file of ``folder`` changed."""
        entry = self._read().get(str(folder.resolve()), {})
        try:
            seen = Seen.from_dict(entry["seen"])
            found = Identity(
                str(entry["tensors"]), str(entry["tokenizer"]), dict(entry["config"]), seen
            )
            return found if seen.is_proof and seen.files == fingerprint(folder) else None
        except MALFORMED:
            return None

    def remember(self, folder: Path, identity: Identity) -> None:
        """Keep the identity of the files in ``folder``, with the state they were hashed in."""
        if identity.seen is not None:
            entry = {"seen": identity.seen.to_dict(), **identity.to_dict()}
            self._write(self._read() | {str(folder.resolve()): entry})

    def find_agreement(self, digest: str, checked_with: Mapping[str, str]) -> str | None:
        """What ``backbones.agreement`` said of a backbone: empty if all was well.

        Args:
            digest: the digest of its identity.
            checked_with: the versions of libraries, and the type of weights, that are meant.

        Returns:
            ``None`` if it was not checked, or with others.
        """
        entry = self._read().get(_AGREEMENTS, {}).get(digest)
        if not isinstance(entry, dict) or entry.get("checked_with") != dict(checked_with):
            return None
        return str(entry.get("complaint", ""))

    def remember_agreement(
        self, digest: str, checked_with: Mapping[str, str], complaint: str
    ) -> None:
        """Keep what the check said."""
        known = self._read()
        entry = {"checked_with": dict(checked_with), "complaint": complaint}
        self._write(known | {_AGREEMENTS: known.get(_AGREEMENTS, {}) | {digest: entry}})

    def _write(self, content: Mapping[str, Any]) -> None:
        if content != self._read():
            data = json.dumps(content, indent=1, sort_keys=True).encode()
            with suppress(OSError):
                write_whole(self.path, data, 0o644)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, *MALFORMED):
            return {}
        # Entries of expertbank 0.1 are text.
        entries = content.items() if isinstance(content, dict) else ()
        return {name: entry for name, entry in entries if isinstance(entry, dict)}
