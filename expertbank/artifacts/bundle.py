"""The bundle: a listed folder of experts and a router, read and written."""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expertbank.artifacts.listed import FORMAT, MANIFEST, MEMBER, ListedFolder, malformed
from expertbank.artifacts.noise import made_by_system
from expertbank.artifacts.store import sha256_bytes
from expertbank.config import ExportFormat
from expertbank.errors import ExistsError, InputError, IntegrityError, NotFoundError
from expertbank.files.durable import make_folder, os_errors_translated, sync_folder, write_durably

ROUTER = "router.safetensors"
_STAGED = re.compile(r"\.(?P<name>.+)-[0-9a-f]{12}")


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


class BundleReader(ListedFolder):
    """An opened bundle folder.

    Raises:
        NotFoundError: the folder is missing or holds no manifest.
        IntegrityError: the manifest is malformed.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with malformed(folder / MANIFEST):
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


class BundleWriter:
    """Writes a bundle beside its final place and moves it there only when it was verified.

    What earlier exports to this place left behind when they were killed goes first.

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
        _clear_beside(self.target)
        self.folder = self.target.parent / f".{self.target.name}-{secrets.token_hex(6)}"
        self._alive: int | None = None
        self._files: dict[str, dict[str, Any]] = {}
        try:
            with os_errors_translated(self.folder):
                while not self.folder.exists():  # until nobody takes it for a killed one's
                    self._let_go()
                    self.folder.mkdir()
                    self._alive = _hold(self.folder, wait=True)
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
        if not MEMBER.fullmatch(name) or name == MANIFEST:
            raise InputError(f"{name!r} cannot be the name of a file in a bundle")
        path = self.folder / name
        make_folder(path.parent)
        write_durably(path, data, 0o644)
        self._files[name] = {"sha256": sha256_bytes(data), "bytes": len(data)}

    def finish(self, content: Mapping[str, Any]) -> str:
        """Write the manifest, with the list of files, and return its digest."""
        files = dict(sorted(self._files.items()))
        whole = {"format": FORMAT, "export": self._export, **content, "files": files}
        data = (json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
        write_durably(self.folder / MANIFEST, data, 0o644)
        return sha256_bytes(data)

    def publish(self) -> None:
        """Move the folder to its final place; a bundle that was there goes only then.

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
        _clear_beside(self.target)

    def discard(self) -> None:
        """Remove what was written, or what ``publish`` replaced; harmless when it is gone."""
        try:
            shutil.rmtree(self.folder, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            self._let_go()

    def _let_go(self) -> None:
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


def _hold(folder: Path, *, wait: bool = False) -> int | None:
    """Mark a folder as in use for as long as this process lives; ``None`` where that cannot be."""
    if sys.platform == "win32":
        return None
    import fcntl

    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # in use, gone, or a file system without locks
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def is_half_made(folder: Path, target: str | None = None) -> bool:
    """Whether an export to ``target`` beside it, default to any, is or was at work in ``folder``.

    A bundle that was put aside and whose successor never came is not: it is the only one there is.
    """
    staged = _STAGED.fullmatch(folder.name)
    if staged is None or folder.is_symlink() or not folder.is_dir():
        return False
    name = staged["name"]
    whole = (folder / MANIFEST).exists() and not (folder.parent / name).exists()
    return target in {None, name} and not whole


def _clear_beside(target: Path) -> None:
    """Remove what exports to ``target`` left when they were killed; nobody holds it any more."""
    with suppress(OSError):
        for folder in target.parent.iterdir():
            held = _hold(folder) if is_half_made(folder, target.name) else None
            if held is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(held)  # after that: who made it just now makes another


def _replaceable(folder: Path, export: ExportFormat) -> bool:
    """Whether ``folder`` is empty, or such an export with nothing in it but its own files.

    A ``manifest.json`` alone proves nothing: web projects have one too.
    """
    if not folder.is_dir():
        return False
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if not path.is_dir() and not made_by_system(path.name)
    }
    if not found:
        return True
    try:
        return found <= ListedFolder(folder, export).members | {MANIFEST}
    except (NotFoundError, IntegrityError):
        return False
