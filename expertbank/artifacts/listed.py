"""A shipped folder, read: a manifest that lists every file, and files that match it.

It may come from anyone. Reading one touches only the members its manifest lists, by plain relative
names, as regular files or links to such, and checks size and hash before a byte is used. What
nobody loads may have changed on the way, which is remarked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expertbank.artifacts.noise import GITATTRIBUTES, is_document, is_noise
from expertbank.artifacts.store import CHUNK, sha256_bytes
from expertbank.config import ExportFormat
from expertbank.errors import MALFORMED, IntegrityError, NotFoundError
from expertbank.files.durable import os_errors_translated
from expertbank.wording import few

FORMAT = 1
MANIFEST = "manifest.json"
BACKBONE_FOLDER = "backbone"
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_READ_BYTES = 1024 * 1024 * 1024
"""Largest member that is ever held in memory; a backbone's weights are only hashed and mapped."""
MEMBER = re.compile(
    rf"{re.escape(GITATTRIBUTES)}|[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){{0,4}}"
)
GIT_ADVICE = (
    "git does that to files on Windows (core.autocrlf): put a .gitattributes with the line "
    "'* -text' beside the manifest before they are added, and check them out again"
)
_SHOWN = 5


class ListedFolder:
    """A shipped folder of some kind: a manifest, and files that must be as it lists them.

    Args:
        folder: where it is.
        export: which kind is meant, as ``BundleWriter`` was told when it was written.

    Attributes:
        content: the whole JSON object of the manifest.
        digest: SHA-256 of the manifest's bytes: the folder's identity.
        remarks: what is odd about the manifest and yet no reason to refuse it, as sentences.

    Raises:
        NotFoundError: the folder is missing or holds no manifest.
        IntegrityError: the manifest is malformed or of another kind of folder.
        ExpertBankError: it cannot be read.
    """

    def __init__(self, folder: Path, export: ExportFormat = "bundle") -> None:
        self.folder = folder
        path = folder / MANIFEST
        with os_errors_translated(path, "read"):
            if folder.is_file():
                raise NotFoundError(
                    f"{folder} is a file, and what is wanted here is a bundle's folder: of an "
                    "archive, unpack it first (import takes one as it is)"
                )
            if not path.exists():
                raise NotFoundError(
                    f"{folder} is not a bundle: it has no {MANIFEST}"
                    f"{_link_to(path)}; make one with: expertbank export"
                )
            if not path.is_file():
                raise IntegrityError(f"{path} is {_sort_of(path)}")
            if path.stat().st_size > MAX_MANIFEST_BYTES:
                raise IntegrityError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
            data = path.read_bytes()
        self.content, self._files = read_manifest(data, path, export)
        self.digest = sha256_bytes(data)
        self.remarks = remarks_on_manifest(data, path)

    @property
    def members(self) -> frozenset[str]:
        """Names of all listed files."""
        return frozenset(self._files)

    def read(self, name: str) -> bytes:
        """Bytes of a listed member, checked.

        Raises:
            IntegrityError: not listed, an unsafe name, not a regular file, too large to be an
                expert or a router, or other bytes than the manifest says.
            ExpertBankError: it cannot be read.
        """
        path = self._regular(name)
        with os_errors_translated(path, "read"):
            if path.stat().st_size > MAX_READ_BYTES:
                raise IntegrityError(f"{path} is larger than {MAX_READ_BYTES} bytes")
            data = path.read_bytes()
        self._require(path, name, sha256_bytes(data))
        return data

    def check(self, name: str) -> None:
        """Hash a listed member, without holding it in memory.

        Raises:
            IntegrityError: as ``read``.
            ExpertBankError: it cannot be read.
        """
        path, digest = self._regular(name), hashlib.sha256()
        with os_errors_translated(path, "read"), path.open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
        self._require(path, name, digest.hexdigest())

    def _regular(self, name: str) -> Path:
        """The file of a listed member, of the listed size.

        A link is followed, as in caches and mounts whose files are links: what is read must have
        the listed digest, wherever it lies.
        """
        if name not in self._files or not MEMBER.fullmatch(name):
            raise IntegrityError(f"{self.folder}: {name!r} is not a listed member of the bundle")
        path = self.folder / name
        with os_errors_translated(path, "read"):
            if not path.is_file():
                raise IntegrityError(f"{path} is {_sort_of(path)}")
            found = path.stat().st_size
        size = self._files[name][1]
        if found != size:
            raise IntegrityError(
                f"{path} has {found} bytes, the manifest says {size}{self._line_ends(path, name)}"
            )
        return path

    def _require(self, path: Path, name: str, digest: str) -> None:
        if digest != self._files[name][0]:
            raise IntegrityError(
                f"{path} does not match its SHA-256 in the manifest{self._line_ends(path, name)}"
            )

    def _line_ends(self, path: Path, name: str) -> str:
        """What to say of a file that differs in nothing but its line ends."""
        digest, size = self._files[name]
        if not size < path.stat().st_size <= min(2 * size, MAX_MANIFEST_BYTES):
            return ""
        same = sha256_bytes(path.read_bytes().replace(b"\r\n", b"\n")) == digest
        return f": only its line ends are others; {GIT_ADVICE}" if same else ""

    def digest_of(self, name: str) -> str | None:
        """The SHA-256 that the manifest lists for a member."""
        return self._files[name][0] if name in self._files else None

    def check_all(self) -> tuple[str, ...]:
        """Hash every listed member once.

        Returns:
            Remarks on what is not as it was exported and of no account: documents that were
            changed, files that nobody listed and nobody reads.

        Raises:
            IntegrityError: the first member that is not as listed, and is no document.
            ExpertBankError: one cannot be read.
        """
        remarks = list(self.remarks)
        for name in self._files:
            try:
                self.check(name)
            except IntegrityError as error:
                if not (is_document(name) and MEMBER.fullmatch(name)):
                    raise
                remarks.append(f"{error}; no answer depends on it")
        extra = self.unlisted(*sorted({_parent(name) for name in self._files} - {BACKBONE_FOLDER}))
        if extra:
            remarks.append(
                f"{self.folder}: not in the manifest, and not read: {few(extra, _SHOWN)}"
            )
        return tuple(remarks)

    def unlisted(self, *folders: str) -> list[str]:
        """Files and, below the top, folders in ``folders`` that the manifest does not know.

        What systems and tools leave behind, and documents, are left out, see ``noise``.
        """
        parents = {_parent(name) for name in self._files}
        known = {name.casefold(): name for name in (*self._files, *parents, MANIFEST)}
        found = []
        for folder in folders:
            place = self.folder / folder
            with os_errors_translated(place, "read"):
                for entry in sorted(place.iterdir()) if place.is_dir() else ():
                    name = entry.relative_to(self.folder).as_posix()
                    twin = known.get(name.casefold())
                    # Where names have no case, the file that is listed may be spelled otherwise.
                    if twin == name or (twin and _same_file(entry, self.folder / twin)):
                        continue
                    if is_noise(entry.name) or is_document(entry.name):
                        continue
                    if folder or not entry.is_dir():
                        found.append(name)
        return found

    def require_backbone(self) -> None:
        """Refuse a shipped backbone whose folder holds what the manifest does not list.

        Loaders look for files by name, so one more could change what is loaded.

        Raises:
            IntegrityError: it does.
        """
        odd = self.unlisted(BACKBONE_FOLDER)
        if odd:
            raise IntegrityError(
                f"{self.folder / BACKBONE_FOLDER}: files do not match the manifest: "
                f"{few(odd, _SHOWN)}; a loader may read them: remove them, or name another "
                "backbone"
            )


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _same_file(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _link_to(path: Path) -> str:
    """Where a broken link leads, for messages."""
    return f" (a link to {os.readlink(path)}, which is not there)" if path.is_symlink() else ""


def _sort_of(path: Path) -> str:
    """What stands in the place of a regular file."""
    if not path.exists():
        return f"missing{_link_to(path)}"
    return "a folder, not a regular file" if path.is_dir() else "not a regular file"


def remarks_on_manifest(data: bytes, path: Path) -> tuple[str, ...]:
    """What is odd about the bytes of a manifest that can be read."""
    if b"\r\n" not in data:
        return ()
    return (
        f"{path}: its line ends were changed, and its SHA-256, which is the bundle's digest, with "
        f"them; {GIT_ADVICE}",
    )


def read_manifest(
    data: bytes, path: Path, export: ExportFormat = "bundle"
) -> tuple[Mapping[str, Any], dict[str, tuple[str, int]]]:
    """The JSON object of a manifest, and SHA-256 and size of every file that it lists.

    Args:
        data: the manifest's bytes.
        path: where they are from, for messages.
        export: which kind of folder is meant.

    Raises:
        IntegrityError: malformed, of a later format or of another kind of folder.
    """
    with malformed(path):
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise IntegrityError(
                f"{path}: bundle format {content['format']} is not known to this expertbank; "
                "upgrade it"
            )
        found = content.get("export", "bundle")
        if found != export:
            raise IntegrityError(
                f"{path} was exported with --format {found}, which is not a {export}"
            )
        if not isinstance(content["experts"], list):
            raise IntegrityError(f"{path} is malformed: its experts are no list")
        files = {
            str(name): (str(entry["sha256"]), int(entry["bytes"]))
            for name, entry in content["files"].items()
        }
    return content, files


@contextmanager
def malformed(path: Path) -> Iterator[None]:
    """Say of any way in which JSON can be other than expected that the manifest is malformed."""
    try:
        yield
    except MALFORMED as error:
        raise IntegrityError(f"{path} is malformed: {error!r}") from error
