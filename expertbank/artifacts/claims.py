"""Whose a store is: the first bank to use it says so in it, and others are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from expertbank.errors import MALFORMED, InputError

if TYPE_CHECKING:
    from expertbank.artifacts.store import ArtifactStore

MARKER = "bank.json"
"""Name of the file or object, beside the artifacts."""


def marker(bank: str) -> bytes:
    """What it holds."""
    return (json.dumps({"bank": bank}) + "\n").encode()


def owner_in(found: bytes) -> str:
    """The bank that it names; empty where it cannot be read."""
    try:
        return str(json.loads(found)["bank"])
    except MALFORMED:
        return ""


def claim(store: ArtifactStore, bank: str) -> None:
    """Take a store for a bank, if the store can remember whose it is.

    Raises:
        InputError: it is another bank's.
    """
    if hasattr(store, "claim"):
        store.claim(bank)


def owner_of(store: ArtifactStore) -> str | None:
    """The bank that claimed a store, if the store can tell."""
    return store.owner() if hasattr(store, "owner") else None


def require_own(store: ArtifactStore, bank: str | None) -> None:
    """Refuse a store that says that it is another bank's.

    Args:
        store: the store.
        bank: whose it shall be; ``None`` for a bank that is not made yet.

    Raises:
        InputError: it is.
    """
    if owner_of(store) not in {None, bank}:
        raise InputError(
            f"the store at {store.location} is another bank's, and gc would delete its files: give "
            "every bank a store of its own, such as a folder or prefix in it"
        )
