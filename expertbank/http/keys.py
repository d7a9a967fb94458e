"""API keys from a file: several, compared in constant time, read again when the file changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from expertbank.errors import InputError

SHORTEST = 16
"""Characters that a key has at the least: a shorter one could be guessed."""
_log = logging.getLogger("expertbank.http")


def parse_keys(text: str, name: str) -> tuple[str, ...]:
    """The keys of a file's text: one a line; empty lines and lines from ``#`` on say nothing.

    Raises:
        InputError: no key, or one that is too short or cannot stand in a header. No message
            holds a key.
    """
    keys = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if len(line) < SHORTEST:
            raise InputError(f"{name}:{number}: a key needs at least {SHORTEST} characters")
        if not line.isascii() or not line.isprintable() or " " in line:
            raise InputError(f"{name}:{number}: a key is printable ASCII without spaces")
        keys.append(line)
    if not keys:
        raise InputError(f"{name}: holds no key; write one a line")
    return tuple(keys)


@dataclass(frozen=True, slots=True)
class _Held:
    digests: tuple[bytes, ...]
    seen: tuple[int, int, int]


class KeyFile:
    """The keys of a file, as it is now.

    A file that cannot be read any more, or holds nothing legal, leaves the keys as they were, and
    the log says so: whoever rewrites it in place must not lock everybody out.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, or holds no legal key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        self._refused: tuple[int, int, int] | None = None
        try:
            self._held = self._read()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error

    def allows(self, offered: Iterable[str]) -> bool:
        """Whether any of the offered keys is one of the file's."""
        self._refresh()
        held = self._held.digests
        found = False
        for one in offered:
            digest = _digest(one)
            for key in held:  # All of them, so that the time tells nothing.
                found |= hmac.compare_digest(digest, key)
        return found

    def _refresh(self) -> None:
        try:
            seen = self._stat()
            if seen == self._held.seen:
                self._refused = None
                return
            if seen == self._refused:
                return
            with self._lock:
                self._refused = seen
                self._held = self._read()
                self._refused = None
            _log.info("the API keys were read again")
        except (OSError, InputError) as error:
            told = error.strerror if isinstance(error, OSError) else str(error)
            if self._refused != (0, 0, 0):
                _log.warning("the API keys stay as they were: %s", told)
            if isinstance(error, OSError):
                self._refused = (0, 0, 0)  # told once, not at every request

    def _read(self) -> _Held:
        seen = self._stat()
        try:
            text = self._path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self._path}: not a text file") from error
        return _Held(tuple(map(_digest, parse_keys(text, str(self._path)))), seen)

    def _stat(self) -> tuple[int, int, int]:
        found = os.stat(self._path)
        return found.st_mtime_ns, found.st_size, found.st_ino


def offered_keys(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """Keys that a request brings.

    They stand in ``Authorization: Bearer``, in ``X-API-Key``, or, as browsers ask for one, in
    ``Authorization: Basic`` as the password.
    """
    found = []
    for name, raw in headers:
        value = raw.decode("latin-1").strip()
        if name == b"x-api-key":
            found.append(value)
        elif name == b"authorization":
            scheme, _, rest = value.partition(" ")
            if scheme.lower() == "bearer":
                found.append(rest.strip())
            elif scheme.lower() == "basic":
                found += _password(rest.strip())
    return tuple(found)


def _password(encoded: str) -> list[str]:
    try:
        text = b64decode(encoded, validate=True).decode("utf-8")
    except (NotBase64, ValueError):
        return []
    return [text.partition(":")[2]]


def _digest(key: str) -> bytes:
    # Digests are of one length, so comparing them does not tell how long a key is.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
