"""A bundle inside a ``.zip`` file, read member by member and never unpacked.

An archive may come from anyone. It is refused whole unless it holds exactly a manifest and the
files that manifest lists: regular files with plain relative names, each once, within the limits
below. What systems and tools put beside them (``noise``) and documents are never read. Nothing is
written to disk, and no byte is used before its size and hash were checked.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from pathlib import Path

from expertbank.artifacts.listed import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    read_manifest,
    remarks_on_manifest,
)
from expertbank.artifacts.noise import GITATTRIBUTES, is_document, is_noise
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import InputError, IntegrityError, NotFoundError

MAX_MEMBERS = 10_000
MAX_BYTES = 16 << 30
"""Most bytes an archive may hold, unpacked; a backbone may be among them."""
MAX_MEMBER_BYTES = 512 << 20
"""Most bytes of one member that is read into memory; an expert has a few hundred thousand."""
MAX_RATIO = 200
"""Most unpacked bytes for one packed byte. Weights hardly pack at all, JSON about 10 times."""
FREE_BYTES = 16 << 20
"""Unpacked bytes that no ratio is asked of: small files may pack very well."""

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"({_PART}/){{0,5}}({_PART}|{re.escape(GITATTRIBUTES)})")
_OTHER = re.compile(r".*\.(tar(\.\w+)?|t[gbx]z|tzst|7z|rar)", re.IGNORECASE)
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,  # a way of packing that this Python does not know
    RuntimeError,  # an encrypted member
    ValueError,
    OverflowError,
)


class BundleArchive:
    """An opened bundle in one file.

    Attributes:
        content: the whole JSON object of the manifest.
        digest: SHA-256 of the manifest's bytes: the bundle's identity, packed or not.
        remarks: what is odd about the manifest and yet no reason to refuse it, as sentences.
        folder: the archive, for messages.

    Raises:
        NotFoundError: no such file, or it holds no manifest.
        InputError: an archive of another kind.
        IntegrityError: anything that a bundle's archive would not hold.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path
        if not path.is_file():
            raise NotFoundError(f"there is no file {path}")
        if _OTHER.fullmatch(path.name):
            raise InputError(
                f"{path}: a bundle is read from its folder or a .zip file; unpack it and name the "
                "folder"
            )
        try:
            # Held open, so that what is read later is what was checked; closed with this object.
            self._archive = zipfile.ZipFile(path)
            self._sizes = _sizes(path, self._archive)
        except _BROKEN as error:
            raise IntegrityError(f"{path} is not a readable .zip file ({error!r})") from error
        # Packed as a folder: all names begin with that folder's.
        tops = {name.partition("/")[0] for name in self._sizes}
        self._prefix = ""
        if MANIFEST not in self._sizes and len(tops) == 1:
            self._prefix = f"{next(iter(tops))}/"
        if self._prefix + MANIFEST not in self._sizes:
            raise NotFoundError(f"{path} is not a bundle: it has no {MANIFEST} at its top")
        data = self._bytes(MANIFEST, MAX_MANIFEST_BYTES)
        self.digest = sha256_bytes(data)
        self.content, self._files = read_manifest(data, path / MANIFEST)
        self.remarks = remarks_on_manifest(data, path / MANIFEST)
        listed = {self._prefix + name for name in (*self._files, MANIFEST)}
        extra = {name for name in self._sizes.keys() - listed if not is_document(name)}
        odd = sorted(extra | (listed - self._sizes.keys()))
        if odd:
            raise IntegrityError(f"{path}: missing or unlisted members {odd[:3]}")

    @property
    def members(self) -> frozenset[str]:
        """Names of all listed files."""
        return frozenset(self._files)

    def read(self, name: str) -> bytes:
        """Bytes of a listed member, checked.

        Raises:
            IntegrityError: not listed, too large, or other bytes than the manifest says.
        """
        if name not in self._files:
            raise IntegrityError(f"{self.folder}: {name!r} is not a listed member of the bundle")
        digest, size = self._files[name]
        if self._sizes[self._prefix + name] != size:
            raise IntegrityError(f"{self.folder}: {name} has not the size the manifest says")
        data = self._bytes(name, MAX_MEMBER_BYTES)
        if len(data) != size or sha256_bytes(data) != digest:
            raise IntegrityError(
                f"{self.folder}: {name} does not match its SHA-256 in the manifest"
            )
        return data

    def _bytes(self, name: str, limit: int) -> bytes:
        inside = self._prefix + name
        if self._sizes[inside] > limit:
            raise IntegrityError(f"{self.folder}: {name} is larger than {limit} bytes")
        try:
            with self._archive.open(inside) as member:
                return member.read(limit + 1)
        except _BROKEN as error:
            raise IntegrityError(f"{self.folder}: {name} cannot be read ({error!r})") from error


def _sizes(path: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    """Unpacked size of every member by name but for noise, or the archive is refused."""
    sizes: dict[str, int] = {}
    if len(archive.infolist()) > MAX_MEMBERS:
        raise IntegrityError(f"{path} has more than {MAX_MEMBERS} members")
    for info in archive.infolist():
        if is_noise(info.orig_filename):
            continue
        mode = info.external_attr >> 16
        if info.orig_filename != info.filename or info.flag_bits & 1:
            raise IntegrityError(f"{path}: {info.orig_filename!r} is not a plain member")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise IntegrityError(f"{path}: {info.filename} is a link or a device")
        if info.is_dir():
            continue
        if not _NAME.fullmatch(info.filename):
            raise IntegrityError(f"{path}: {info.filename!r} is not a plain relative name")
        if info.filename in sizes:
            raise IntegrityError(f"{path}: {info.filename} is in it twice")
        sizes[info.filename] = info.file_size
    unpacked = sum(sizes.values())
    if unpacked > FREE_BYTES + MAX_RATIO * path.stat().st_size or unpacked > MAX_BYTES:
        raise IntegrityError(
            f"{path} would unpack to more than {MAX_RATIO} times its size; no bundle does"
        )
    return sizes
