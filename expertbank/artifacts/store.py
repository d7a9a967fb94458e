"""What expertbank needs of a store of immutable bytes: bytes in, digest out, checked when read.

A bank's store holds its experts, routers, features and evidence, each named by the SHA-256 of
its bytes. Files in a folder are one store (``artifacts.local``); others come from plugins
(``artifacts.stores``) and can be held against ``expertbank.testing.stores``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from expertbank.errors import IntegrityError

CHUNK = 1 << 20
"""Bytes that are read at once where a whole artifact is not wanted."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store knows of an artifact without reading it.

    Attributes:
        bytes: its size.
        modified: when it was last put, in seconds since 1970, by the store's clock.
    """

    bytes: int
    modified: float


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a ``put`` that was killed left behind: a temporary file, an unfinished upload.

    Attributes:
        where: what ``discard`` finds it by, and what people are shown.
        bytes: its size so far.
        modified: when it was last written to, in seconds since 1970.
    """

    where: str
    bytes: int
    modified: float


class ArtifactStore(Protocol):
    """Immutable bytes by digest. Used by several threads and processes at once.

    A store belongs to one bank: ``gc`` deletes from it what that bank's database does not name.
    A method that is given anything but a SHA-256 digest raises ``IntegrityError`` and looks
    nowhere: digests come from databases and manifests, and must never become other paths. A
    store that cannot be reached or refuses raises ``ExpertBankError``, never an error of its own.

    Attributes:
        distant: whether what is read often should be kept on this machine, too.
    """

    distant: bool = False

    @property
    def location(self) -> str:
        """Where the store is, for people: a folder or a URL, without secrets."""
        ...

    def where(self, digest: str) -> str:
        """Where the bytes named ``digest`` are or would be, for people."""
        ...

    def put(self, data: bytes) -> str:
        """Store ``data`` and return its digest; when it returns, no crash can lose them.

        Equal bytes are stored once, and putting them again makes ``state`` say that they were
        modified now, so that no collector takes them for old. Bytes that were damaged are
        replaced.

        Raises:
            ExpertBankError: the store refused; ``digests`` does not list what was half put.
        """
        ...

    def chunks(self, digest: str) -> Iterator[bytes]:
        """The bytes named ``digest`` in order, hashed on the way; see ``rehashed``.

        Only whoever read to the end knows that they are the bytes that were put.

        Raises:
            IntegrityError: they are missing or, at the end, not the bytes that were put.
        """
        ...

    def get(self, digest: str) -> bytes:
        """The bytes named ``digest``, rehashed.

        Raises:
            IntegrityError: they are missing, or not the bytes that were put.
        """
        return b"".join(self.chunks(digest))

    def digests(self) -> Iterator[str]:
        """Every digest in the store, ascending; nothing unfinished, nothing that is not ours."""
        ...

    def state(self, digest: str) -> Stored | None:
        """Size and age of what is stored under ``digest``, unread; ``None`` when nothing is."""
        ...

    def delete(self, digest: str) -> None:
        """Let go of the bytes named ``digest``; harmless when they are gone."""
        ...

    def unfinished(self) -> Iterator[Unfinished]:
        """What interrupted calls of ``put`` left behind, and what running ones are at.

        Nothing, of a store whose ``put`` is one transaction.
        """
        return iter(())

    def discard(self, unfinished: Unfinished) -> None:
        """Delete what ``unfinished`` listed; harmless when it is gone."""
        return

    def claim(self, bank: str) -> None:
        """Take the store for one bank, for good: that bank may claim it again, no other.

        What the store is not able to remember is not refused.

        Args:
            bank: what tells the bank from others.

        Raises:
            InputError: the store is another bank's.
        """
        return

    def owner(self) -> str | None:
        """The bank that claimed the store; ``None`` for none, or where that is not remembered."""
        return None

    def probe(self) -> None:
        """Refuse early if ``put`` could not work now; leaves nothing behind.

        Raises:
            ExpertBankError: the store cannot be reached, or not be written.
        """
        ...


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether ``text`` is a SHA-256 in lower-case hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def require_digest(text: str) -> str:
    """``text``, which is a digest.

    Raises:
        IntegrityError: it is not one, so never a part of a path or a key.
    """
    if not is_digest(text):
        raise IntegrityError(f"{text!r} is not a SHA-256 digest")
    return text


def rehashed(digest: str, chunks: Iterable[bytes], where: str) -> Iterator[bytes]:
    """Pass ``chunks`` on, and refuse after the last one if they are not what ``digest`` names.

    Raises:
        IntegrityError: they hash to something else.
    """
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
        yield chunk
    if found.hexdigest() != digest:
        raise IntegrityError(
            f"artifact {where} has changed: its name is {digest}, its bytes hash to "
            f"{found.hexdigest()}; restore it from a backup"
        )
