"""A bundle inside a ``.zip`` or ``.tar`` file, read member by member and never unpacked.

An archive may come from anyone. It is refused whole unless it holds exactly a manifest and the
files that manifest lists: regular files with plain relative names, each once, within the limits
below. Nothing is written to disk, and no byte is used before its size and hash were checked.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from expertbank.artifacts.bundle import FORMAT, MANIFEST, MAX_MANIFEST_BYTES
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import IntegrityError, NotFoundError

MAX_MEMBERS = 10_000
MAX_BYTES = 16 << 30
"""Most bytes an archive may hold, unpacked; a backbone may be among them."""
MAX_MEMBER_BYTES = 512 << 20
"""Most bytes of one member that is read into memory; an expert has a few hundred thousand."""
MAX_RATIO = 200
"""Most unpacked bytes for one packed byte. Weights hardly pack at all, JSON about 10 times."""
FREE_BYTES = 16 << 20
"""Unpacked bytes that no ratio is asked of: small files may pack very well."""
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,5}")
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
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
        folder: the archive, for messages.

    Raises:
        NotFoundError: no such file, or it holds no manifest.
        IntegrityError: anything that a bundle's archive would not hold.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path
        if not path.is_file():
            raise NotFoundError(f"there is no file {path}")
        try:
            opened = _zip(path) if path.suffix.lower() == ".zip" else _tar(path)
        except _BROKEN as error:
            raise IntegrityError(f"{path} is not a readable archive ({error!r})") from error
        self._sizes, self._read = opened
        # Packed as a folder: all names begin with that folder's.
        tops = {name.partition("/")[0] for name in self._sizes}
        self._prefix = ""
        if MANIFEST not in self._sizes and len(tops) == 1:
            self._prefix = f"{next(iter(tops))}/"
        if self._prefix + MANIFEST not in self._sizes:
            raise NotFoundError(f"{path} is not a bundle: it has no {MANIFEST} at its top")
        data = self._bytes(MANIFEST, MAX_MANIFEST_BYTES)
        self.digest = sha256_bytes(data)
        self.content, self._files = _manifest(data, path)
        listed = {self._prefix + name for name in (*self._files, MANIFEST)}
        if listed != self._sizes.keys():
            odd = sorted(listed ^ self._sizes.keys())
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
            return self._read(inside, limit)
        except _BROKEN as error:
            raise IntegrityError(f"{self.folder}: {name} cannot be read ({error!r})") from error


_Opened = tuple[dict[str, int], Callable[[str, int], bytes]]


def _manifest(data: bytes, path: Path) -> tuple[Mapping[str, Any], dict[str, tuple[str, int]]]:
    try:
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise IntegrityError(
                f"{path}: bundle format {content['format']} is not known to this expertbank; "
                "upgrade it"
            )
        files = {
            str(name): (str(entry["sha256"]), int(entry["bytes"]))
            for name, entry in content["files"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{path}: {MANIFEST} is malformed: {error!r}") from error
    return content, files


def _take(sizes: dict[str, int], path: Path, name: str, size: int) -> None:
    """Count one member in, or refuse the archive."""
    if not _NAME.fullmatch(name):
        raise IntegrityError(f"{path}: {name!r} is not a plain relative name")
    if name in sizes:
        raise IntegrityError(f"{path}: {name} is in it twice")
    sizes[name] = size
    if len(sizes) > MAX_MEMBERS:
        raise IntegrityError(f"{path} has more than {MAX_MEMBERS} members")
    total = sum(sizes.values()) if len(sizes) % 64 == 0 else size
    if size < 0 or total > MAX_BYTES:
        raise IntegrityError(f"{path} holds more than {MAX_BYTES} bytes")


def _zip(path: Path) -> _Opened:
    sizes: dict[str, int] = {}
    packed = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.orig_filename != info.filename or info.flag_bits & 1:
                raise IntegrityError(f"{path}: {info.orig_filename!r} is not a plain member")
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise IntegrityError(f"{path}: {info.filename} is a link or a device")
            if not info.is_dir():
                _take(sizes, path, info.filename, info.file_size)
    _check_ratio(path, sum(sizes.values()), packed)

    def read(name: str, limit: int) -> bytes:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            return member.read(limit + 1)

    return sizes, read


def _tar(path: Path) -> _Opened:
    sizes: dict[str, int] = {}
    with _unpacking(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for info in archive:
            if info.isdir():
                continue
            # Sparse members are refused with links and devices: they claim more than they hold.
            if not info.isreg() or info.issparse():
                raise IntegrityError(f"{path}: {info.name} is a link, a device or sparse")
            _take(sizes, path, info.name, info.size)

    def read(name: str, limit: int) -> bytes:
        with _unpacking(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            member = archive.extractfile(archive.getmember(name))
            if member is None:
                raise IntegrityError(f"{path}: {name} is not a regular file")
            with member:
                return member.read(limit + 1)

    return sizes, read


def _check_ratio(path: Path, unpacked: int, packed: int) -> None:
    if unpacked > FREE_BYTES + MAX_RATIO * packed or unpacked > MAX_BYTES:
        raise IntegrityError(
            f"{path} would unpack to more than {MAX_RATIO} times its size; no bundle does"
        )


def _unpacking(path: Path) -> IO[bytes]:
    """The tar stream in ``path``, unpacked as it is read and no further than the limits."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(_Bounded(path)) if is_gzip else path.open("rb")


class _Bounded(io.RawIOBase):
    """A gzip stream that stops when it grows beyond what its packed size allows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._packed = path.stat().st_size
        self._stream = gzip.open(path, "rb")  # noqa: SIM115 (closed with this object)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            raise OSError("the end of a packed stream is not known")
        target = offset if whence == io.SEEK_SET else self.tell() + offset
        _check_ratio(self._path, target, self._packed)
        return self._stream.seek(target)

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        _check_ratio(self._path, self._stream.tell(), self._packed)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
