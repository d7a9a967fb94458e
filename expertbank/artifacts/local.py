"""The store of files in a folder, the one that every bank has unless it was told otherwise."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from urllib.parse import urlsplit
from urllib.request import url2pathname

from expertbank.artifacts.claims import MARKER, marker, owner_in, require_own
from expertbank.artifacts.store import (
    CHUNK,
    ArtifactStore,
    Stored,
    Unfinished,
    is_digest,
    rehashed,
    require_digest,
    sha256_bytes,
)
from expertbank.errors import ExpertBankError, InputError, IntegrityError
from expertbank.files.durable import (
    create_durably,
    make_folder,
    os_errors_translated,
    sync_folder,
    write_durably,
)

_SUFFIX = ".safetensors"
_FOLDER = re.compile(r"[0-9a-f]{2}")


class LocalStore(ArtifactStore):
    """Files ``<root>/ab/<sha256>.safetensors``, read-only once written.

    A folder may be shared by users of one group: whoever may write into it may put.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def location(self) -> str:
        """The folder."""
        return str(self._root)

    def where(self, digest: str) -> str:
        """The file's path."""
        return str(self._path(digest))

    def put(self, data: bytes) -> str:
        """Store ``data`` durably and return its digest.

        Raises:
            ExpertBankError: the disk refused (full, read-only, failing); nothing is left behind.
        """
        digest = sha256_bytes(data)
        target = self._path(digest)
        with os_errors_translated(target):
            if self._renewed(digest):
                sync_folder(target.parent)  # whoever renamed it may have died before this
            else:
                make_folder(target.parent)
                write_durably(target, data)
            # Another process may have made the folder and not come so far.
            sync_folder(self._root)
        return digest

    def _renewed(self, digest: str) -> bool:
        """Whether the bytes are there, whole, and a collector's grace period starts again."""
        try:
            for _ in self.chunks(digest):
                pass
            os.utime(self._path(digest))
        except (IntegrityError, OSError):
            # Damaged, deleted meanwhile, or a colleague's file, whose time only its owner may
            # set: written anew, it is ours.
            return False
        return True

    def chunks(self, digest: str) -> Iterator[bytes]:
        """The file's bytes in order, hashed on the way.

        Raises:
            IntegrityError: missing, unreadable, no plain file or, at the end, changed.
        """
        path = self._path(digest)
        return rehashed(digest, _blocks(path, digest), str(path))

    def digests(self) -> Iterator[str]:
        """Digests of all stored files, ascending."""
        for folder, names in self._folders():
            for name in names:
                digest = name.removesuffix(_SUFFIX)
                if name != digest and is_digest(digest) and digest[:2] == folder.name:
                    yield digest

    def state(self, digest: str) -> Stored | None:
        """Size and age of the file; ``None`` when there is none."""
        return self._stat(self._path(digest))

    def delete(self, digest: str) -> None:
        """Delete the file, if it is there; whether it may go is not asked here."""
        _unlink(self._path(digest))

    def unfinished(self) -> Iterator[Unfinished]:
        """Temporary files of writers that were killed, or are at work."""
        for folder, names in self._folders():
            for name in names:
                path = folder / name
                found = self._stat(path) if name.startswith(".tmp-") else None
                if found is not None:
                    yield Unfinished(str(path), found.bytes, found.modified)

    def discard(self, unfinished: Unfinished) -> None:
        """Delete such a temporary file.

        Raises:
            IntegrityError: it is not one of this store.
        """
        path = Path(unfinished.where)
        inside = path.parent.parent == self._root and _FOLDER.fullmatch(path.parent.name)
        if not inside or not path.name.startswith(".tmp-"):
            raise IntegrityError(f"{path} is no temporary file of the store at {self._root}")
        _unlink(path)

    def probe(self) -> None:
        """Refuse a folder that is none or that this user may not write into."""
        there = next(path for path in (self._root, *self._root.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise ExpertBankError(f"{there} cannot be written; make it a writable folder")

    def claim(self, bank: str) -> None:
        """Take the folder for one bank, for good; see ``ArtifactStore``.

        Raises:
            InputError: it is another bank's.
        """
        path = self._root / MARKER
        with os_errors_translated(path):
            if not path.exists():
                make_folder(self._root)
                create_durably(path, marker(bank))
        require_own(self, bank)

    def owner(self) -> str | None:
        """The bank that claimed the folder, if one did."""
        path = self._root / MARKER
        with os_errors_translated(path, "read"):
            return owner_in(path.read_bytes()) if path.exists() else None

    def _path(self, digest: str) -> Path:
        require_digest(digest)
        return self._root / digest[:2] / f"{digest}{_SUFFIX}"

    def _stat(self, path: Path) -> Stored | None:
        with os_errors_translated(path, "read"):
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Stored(found.st_size, found.st_mtime)

    def _folders(self) -> Iterator[tuple[Path, list[str]]]:
        """The folders that files are in, with the names in each, in order."""
        for name in _names(self._root):
            if _FOLDER.fullmatch(name):
                yield self._root / name, _names(self._root / name)


def open_folder(url: str) -> LocalStore:
    """The store in the folder of ``file:///absolute/folder``.

    Raises:
        InputError: a URL of another form.
    """
    parts = urlsplit(url)
    root = Path(url2pathname(parts.path))
    if parts.netloc not in {"", "localhost"} or parts.query or not root.is_absolute():
        raise InputError(f"a folder's URL has the form file:///absolute/folder, got {url!r}")
    return LocalStore(root)


def _names(folder: Path) -> list[str]:
    with os_errors_translated(folder, "read"):
        return sorted(os.listdir(folder)) if folder.is_dir() else []


def _blocks(path: Path, digest: str) -> Iterator[bytes]:
    try:
        # A device or a pipe in its place might never end.
        if not S_ISREG(path.stat().st_mode):
            raise IntegrityError(
                f"artifact {digest} is no plain file at {path}; restore it from a backup"
            )
        with path.open("rb", buffering=0) as file:
            while block := file.read(CHUNK):
                yield block
    except OSError as error:
        raise IntegrityError(
            f"artifact {digest} cannot be read at {path}: {error.strerror}; "
            "restore it from a backup"
        ) from error


def _unlink(path: Path) -> None:
    with os_errors_translated(path):
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)
