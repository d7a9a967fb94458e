"""Whose a store is: the first bank to use it says so in it, and others are refused."""

from __future__ import annotations

import json

from expertbank.errors import MALFORMED, InputError

MARKER = "bank.json"
"""Name of the file or object, beside the artifacts."""


def marker(bank: str) -> bytes:
    """What it holds."""
    return (json.dumps({"bank": bank}) + "\n").encode()


def require_own(found: bytes, bank: str, where: str) -> None:
    """Refuse a store that says that it is another bank's.

    Raises:
        InputError: it is.
    """
    try:
        owner = json.loads(found)["bank"]
    except MALFORMED:
        owner = None
    if owner != bank:
        raise InputError(
            f"the store at {where} is another bank's, and gc would delete its files: give every "
            "bank a store of its own, such as a folder or prefix in it"
        )
