"""Backbones' identities, kept by the state of the files behind them. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from expertbank.backbones.identity import Identity, fingerprint
from expertbank.files.durable import write_durably

DIGEST_CACHE = "backbone-digests.json"


class DigestCache:
    """One entry for each folder: its files as they were, and the identity they gave.

    It only saves time: absent or damaged it means that nothing is known.

    Args:
        path: the cache's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, folder: Path) -> Identity | None:
        """The identity worked out earlier, if no file of ``folder`` has changed since."""
        entry = self._read().get(str(folder.resolve()))
        if not isinstance(entry, dict) or entry.get("files") != fingerprint(folder):
            return None
        try:
            return Identity(str(entry["tensors"]), str(entry["tokenizer"]), dict(entry["config"]))
        except (KeyError, TypeError, ValueError):
            return None

    def remember(self, folder: Path, identity: Identity) -> None:
        """Keep the identity of the files in ``folder`` as they are."""
        entry = {"files": fingerprint(folder), **identity.to_dict()}
        known = self._read()
        name = str(folder.resolve())
        if known.get(name) != entry:
            known[name] = entry
            write_durably(self.path, json.dumps(known, indent=1, sort_keys=True).encode(), 0o644)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        # Entries of expertbank 0.1 are text.
        entries = content.items() if isinstance(content, dict) else ()
        return {name: entry for name, entry in entries if isinstance(entry, dict)}
