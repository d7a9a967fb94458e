"""The content-addressed store: bytes in, digest out; checked again at every read.

Order of a write: temporary file in the target folder, write, fsync, rename, fsync the folder.
Only after that may a database row name the file, and only after that may a message say so.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from expertbank.errors import ExpertBankError, IntegrityError

_DIGEST = re.compile(r"[0-9a-f]{64}")


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


class ArtifactStore(Protocol):
    """What expertbank needs of a store; local files are one implementation."""

    def put(self, data: bytes) -> str:
        """Store ``data`` durably and return its digest; equal bytes are stored once."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the bytes named ``digest``.

        Raises:
            IntegrityError: they are missing, or are not the bytes that were stored.
        """
        ...

    def digests(self) -> Iterator[str]:
        """Every digest in the store."""
        ...

    def state(self, digest: str) -> Stored | None:
        """Size and age of what is stored under ``digest``, without reading it."""
        ...

    def delete(self, digest: str) -> None:
        """Let go of the bytes named ``digest``; harmless when they are gone."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows of one file: its size and when it was last wanted."""

    bytes: int
    modified: float


class LocalStore:
    """Files ``<root>/ab/<sha256>.safetensors``, read-only once written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the bytes named ``digest`` are or would be.

        Raises:
            IntegrityError: not a digest, so never a path.
        """
        if not _DIGEST.fullmatch(digest):
            raise IntegrityError(f"{digest!r} is not a SHA-256 digest")
        return self.root / digest[:2] / f"{digest}.safetensors"

    def put(self, data: bytes) -> str:
        """Store ``data`` durably and return its digest.

        Raises:
            ExpertBankError: the disk refused (full, read-only, failing); nothing is left behind.
        """
        digest = sha256_bytes(data)
        target = self.path(digest)
        with told(target):
            if target.is_file() and sha256_bytes(target.read_bytes()) == digest:
                os.utime(target)  # freshly wanted: a collector's grace period starts again
                sync_folder(target.parent)  # whoever renamed it may have died before this
                return digest
            make_folder(target.parent)
            write_durably(target, data)
            sync_folder(self.root)  # another process may have made the folder and not come so far
        return digest

    def get(self, digest: str) -> bytes:
        """Return the bytes named ``digest``, rehashed.

        Raises:
            IntegrityError: missing, unreadable or changed.
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise IntegrityError(
                f"artifact {digest} cannot be read at {path}: {error.strerror}; "
                "restore it from a backup, or add the expert again"
            ) from error
        found = sha256_bytes(data)
        if found != digest:
            raise IntegrityError(
                f"artifact {path} has changed: its name is {digest}, its bytes hash to {found}; "
                "restore it from a backup"
            )
        return data

    def digests(self) -> Iterator[str]:
        """Digests of all stored files, in order."""
        for path in sorted(self.root.glob("[0-9a-f][0-9a-f]/*.safetensors")):
            if _DIGEST.fullmatch(path.stem):
                yield path.stem

    def state(self, digest: str) -> Stored | None:
        """Size and age of what is stored under ``digest``; ``None`` when nothing is."""
        try:
            found = self.path(digest).stat()
        except FileNotFoundError:
            return None
        return Stored(found.st_size, found.st_mtime)

    def delete(self, digest: str) -> None:
        """Delete the file named ``digest``, if it is there; whether it may go is not asked here."""
        path = self.path(digest)
        with told(path):
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the disk's refusal to write ``path`` into an error that says what to do.

    Raises:
        ExpertBankError: the disk refused (full, read-only, failing).
    """
    try:
        yield
    except OSError as error:
        raise ExpertBankError(
            f"cannot write {path}: {error.strerror or error}; free space or check permissions, "
            "then run the command again"
        ) from error


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents, each durable in the folder above it.

    Raises:
        ExpertBankError: the disk refused.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with told(folder):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_durably(target: Path, data: bytes, mode: int = 0o444) -> None:
    """Put ``data`` at ``target`` so that it is there whole, or not at all, after a crash.

    Raises:
        ExpertBankError: the disk refused; nothing half-written is left behind.
    """
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    with told(target):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries; silently skipped where folders cannot be opened (Windows)."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
