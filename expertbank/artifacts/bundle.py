"""The shipped folder: a manifest that lists every file, and files that match it.

A bundle may come from anyone. Reading one touches only the members its manifest lists, by
plain relative names, as regular files, and checks size and hash before a byte is used.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expertbank.artifacts.store import CHUNK, sha256_bytes
from expertbank.config import ExportFormat
from expertbank.errors import ExistsError, InputError, IntegrityError, NotFoundError
from expertbank.files.durable import make_folder, os_errors_translated, sync_folder, write_durably

FORMAT = 1
MANIFEST = "manifest.json"
ROUTER = "router.safetensors"
BACKBONE_FOLDER = "backbone"
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_READ_BYTES = 1024 * 1024 * 1024
"""Largest member that is ever held in memory; a backbone's weights are only hashed and mapped."""
_MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,4}")


@dataclass(frozen=True, slots=True)
class BundledExpert:
    """One expert of a bundle, as its manifest tells it."""

    id: str
    task: str
    version: int
    digest: str
    kind: str
    labels: tuple[str, ...]
    file: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The checked contents of ``manifest.json``.

    Attributes:
        content: the whole JSON object.
        digest: SHA-256 of the file's bytes: the bundle's identity.
        experts: the experts, in order.
    """

    content: Mapping[str, Any]
    digest: str
    experts: tuple[BundledExpert, ...]


class ListedFolder:
    """A shipped folder of some kind: a manifest, and files that must be as it lists them.

    Args:
        folder: where it is.
        export: which kind is meant, as ``BundleWriter`` was told when it was written.

    Attributes:
        content: the whole JSON object of the manifest.
        digest: SHA-256 of the manifest's bytes: the folder's identity.

    Raises:
        NotFoundError: the folder is missing or holds no manifest.
        IntegrityError: the manifest is malformed or of another kind of folder.
    """

    def __init__(self, folder: Path, export: ExportFormat = "bundle") -> None:
        self.folder = folder
        path = folder / MANIFEST
        if not path.is_file():
            raise NotFoundError(
                f"{folder} is not a bundle: it has no {MANIFEST}; make one with: expertbank export"
            )
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise IntegrityError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
        data = path.read_bytes()
        self.content, self._files = read_manifest(data, path, export)
        self.digest = sha256_bytes(data)

    @property
    def members(self) -> frozenset[str]:
        """Names of all listed files."""
        return frozenset(self._files)

    def read(self, name: str) -> bytes:
        """Bytes of a listed member, checked.

        Raises:
            IntegrityError: not listed, an unsafe name, not a regular file, too large to be an
                expert or a router, or other bytes than the manifest says.
        """
        path = self._regular(name)
        if path.stat().st_size > MAX_READ_BYTES:
            raise IntegrityError(f"{path} is larger than {MAX_READ_BYTES} bytes")
        data = path.read_bytes()
        self._require(path, name, sha256_bytes(data))
        return data

    def check(self, name: str) -> None:
        """Hash a listed member, without holding it in memory.

        Raises:
            IntegrityError: as ``read``.
        """
        path, digest = self._regular(name), hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
        self._require(path, name, digest.hexdigest())

    def _regular(self, name: str) -> Path:
        """The file behind a listed member: inside the bundle, no link, of the listed size."""
        if name not in self._files or not _MEMBER.fullmatch(name):
            raise IntegrityError(f"{self.folder}: {name!r} is not a listed member of the bundle")
        size = self._files[name][1]
        path = self.folder / name
        inside = path.resolve().is_relative_to(self.folder.resolve())
        if not inside or path.is_symlink() or not path.is_file():
            raise IntegrityError(f"{path} is missing or not a regular file")
        found = path.stat().st_size
        if found != size:
            raise IntegrityError(f"{path} has {found} bytes, the manifest says {size}")
        return path

    def _require(self, path: Path, name: str, digest: str) -> None:
        if digest != self._files[name][0]:
            raise IntegrityError(f"{path} does not match its SHA-256 in the manifest")

    def check_all(self) -> None:
        """Hash every listed member once.

        Raises:
            IntegrityError: the first member that is not as listed.
        """
        for name in self._files:
            self.check(name)


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
    with _malformed(path):
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


class BundleReader(ListedFolder):
    """An opened bundle folder.

    Raises:
        NotFoundError: the folder is missing or holds no manifest.
        IntegrityError: the manifest is malformed.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with _malformed(folder / MANIFEST):
            experts = tuple(
                BundledExpert(
                    str(entry["id"]),
                    str(entry["task"]),
                    int(entry["version"]),
                    str(entry["digest"]),
                    entry["kind"],
                    tuple(str(label) for label in entry["labels"]),
                    str(entry["file"]),
                )
                for entry in self.content["experts"]
            )
        self.manifest = Manifest(self.content, self.digest, experts)


@contextmanager
def _malformed(path: Path) -> Iterator[None]:
    """Say of any way in which JSON can be other than expected that the manifest is malformed."""
    try:
        yield
    except (
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
        AttributeError,
    ) as error:
        raise IntegrityError(f"{path} is malformed: {error!r}") from error


class BundleWriter:
    """Writes a bundle beside its final place and moves it there only when it was verified.

    Args:
        target: the final folder. One of the same kind that is there is replaced; anything else
            is not.
        export: which kind of folder this is.

    Raises:
        ExistsError: ``target`` exists and is neither empty nor a folder of this kind.
    """

    def __init__(self, target: Path, export: ExportFormat = "bundle") -> None:
        self._export = export
        # Through a link, so that the folder it names is replaced and the link stays.
        self.target = target.resolve() if target.is_symlink() else target.absolute()
        self._refuse_what_is_no_bundle()
        make_folder(self.target.parent)
        self.folder = self.target.parent / f".{self.target.name}-{secrets.token_hex(6)}"
        self._alive: int | None = None
        self._files: dict[str, dict[str, Any]] = {}
        try:
            with os_errors_translated(self.folder):
                self.folder.mkdir()
                self._alive = _hold(self.folder)
        except BaseException:
            self.discard()  # interrupted here, no caller has the writer to do it
            raise

    def _refuse_what_is_no_bundle(self) -> None:
        if self.target.exists() and not _replaceable(self.target, self._export):
            kind = "a bundle" if self._export == "bundle" else f"an export for {self._export}"
            raise ExistsError(
                f"{self.target} exists and is not {kind}, or holds files that are not its own; "
                "name another folder or move it away"
            )

    def add(self, name: str, data: bytes) -> None:
        """Write one member and list it.

        Raises:
            InputError: a name that no reader would accept.
            ExpertBankError: the disk refused.
        """
        if not _MEMBER.fullmatch(name) or name == MANIFEST:
            raise InputError(f"{name!r} cannot be the name of a file in a bundle")
        path = self.folder / name
        make_folder(path.parent)
        write_durably(path, data, 0o644)
        self._files[name] = {"sha256": sha256_bytes(data), "bytes": len(data)}

    def finish(self, content: Mapping[str, Any]) -> str:
        """Write the manifest, with the list of files, and return its digest."""
        files = dict(sorted(self._files.items()))
        whole = {"format": FORMAT, "export": self._export, **content, "files": files}
        data = (json.dumps(whole, indent=2, ensure_ascii=False) + "\n").encode()
        write_durably(self.folder / MANIFEST, data, 0o644)
        return sha256_bytes(data)

    def publish(self) -> None:
        """Move the folder to its final place; a bundle that was there goes only then.

        What earlier exports to this place left behind when they were killed goes too.

        Raises:
            ExistsError: something else came to stand there meanwhile.
            ExpertBankError: the disk refused; what was there is there still.
        """
        self._refuse_what_is_no_bundle()
        with os_errors_translated(self.target):
            if self.target.exists():
                _exchange(self.folder, self.target)  # from here ``folder`` is the older bundle
            else:
                self.folder.rename(self.target)
            sync_folder(self.target.parent)
        self.discard()
        for folder in _abandoned(self.target):
            shutil.rmtree(folder, ignore_errors=True)

    def discard(self) -> None:
        """Remove what was written, or what ``publish`` replaced; harmless when it is gone."""
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            if self._alive is not None:
                os.close(self._alive)
                self._alive = None


def _exchange(one: Path, other: Path) -> None:
    """Let two folders change places, so that no crash finds ``other`` missing.

    Linux does it in one step. Elsewhere there is a moment without ``other``; then the folder put
    aside stays until a later export to the same place has succeeded.
    """
    # ``os.replace`` refuses a folder that holds files, and a link to numbered folders would ship
    # a link: only this call, which Python does not offer, keeps the promise.
    if sys.platform == "linux":
        swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if swap and swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
            return
    aside = one.with_name(f".{other.name}-{secrets.token_hex(6)}")
    other.rename(aside)
    try:
        one.rename(other)
    except BaseException:
        aside.rename(other)
        raise
    aside.rename(one)


def _hold(folder: Path) -> int | None:
    """Mark a folder as in use for as long as this process lives; ``None`` where that cannot be."""
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # in use, or a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _abandoned(target: Path) -> list[Path]:
    """Folders beside ``target`` in which exports to it were at work when they were killed."""
    pattern = re.compile(rf"\.{re.escape(target.name)}-[0-9a-f]{{12}}")
    found = []
    for folder in target.parent.iterdir():
        if pattern.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            held = _hold(folder)
            if held is not None:
                os.close(held)
                found.append(folder)
    return found


def _replaceable(folder: Path, export: ExportFormat) -> bool:
    """Whether ``folder`` is empty, or such an export with nothing in it but its own files.

    A ``manifest.json`` alone proves nothing: web projects have one too.
    """
    if not folder.is_dir():
        return False
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if not found:
        return True
    try:
        return found <= ListedFolder(folder, export).members | {MANIFEST}
    except (NotFoundError, IntegrityError):
        return False
