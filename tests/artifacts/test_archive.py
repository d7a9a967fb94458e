"""Hostile archives are refused whole; nothing is ever unpacked."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from expertbank.artifacts import archive as archives
from expertbank.artifacts.archive import BundleArchive
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import IntegrityError, NotFoundError

FILES = {"experts/a.safetensors": b"weights" * 50, "README.md": b"read me"}


def manifest(files: dict[str, bytes], **changes: object) -> bytes:
    listed = {
        name: {"sha256": sha256_bytes(data), "bytes": len(data)} for name, data in files.items()
    }
    return json.dumps({"format": 1, "files": listed, **changes}).encode()


def members(files: dict[str, bytes] = FILES) -> list[tuple[str, bytes]]:
    return [("manifest.json", manifest(files)), *files.items()]


def zipped(path: Path, entries: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def tarred(path: Path, entries: Iterable[tuple[str, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def read_all(path: Path) -> None:
    opened = BundleArchive(path)
    for member in opened.members:
        opened.read(member)


Pack = Callable[[Path, Iterable[tuple[str, bytes]]], Path]
BOTH = pytest.mark.parametrize(
    ("pack", "name"), [(zipped, "b.zip"), (tarred, "b.tar.gz")], ids=["zip", "tar"]
)


@BOTH
def test_a_sound_archive_gives_checked_bytes(pack: Pack, name: str, tmp_path: Path) -> None:
    opened = BundleArchive(pack(tmp_path / name, members()))
    assert opened.members == set(FILES)
    assert {member: opened.read(member) for member in FILES} == FILES
    assert opened.digest == sha256_bytes(manifest(FILES))
    with pytest.raises(IntegrityError, match="not a listed member"):
        opened.read("manifest.json")


@BOTH
@pytest.mark.parametrize(
    "odd", ["../up", "/abs", "a/../b", ".hidden", "a//b", "a\\b", "C:x", "a/b/c/d/e/f/g", "ü"]
)
def test_names_that_are_not_plain_are_refused(
    pack: Pack, name: str, odd: str, tmp_path: Path
) -> None:
    files = {**FILES, odd: b"x"}
    with pytest.raises(IntegrityError):
        BundleArchive(pack(tmp_path / name, members(files)))


@BOTH
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_extra_missing_and_double_members_are_refused(
    pack: Pack, name: str, tmp_path: Path
) -> None:
    for entries, text in (
        ([*members(), ("extra.txt", b"x")], "unlisted"),
        (members()[:-1], "missing"),
        ([*members(), ("README.md", b"other")], "twice"),
    ):
        with pytest.raises(IntegrityError, match=text):
            BundleArchive(pack(tmp_path / name, entries))


@BOTH
def test_other_bytes_than_listed_are_refused(pack: Pack, name: str, tmp_path: Path) -> None:
    entries = [(n, d.replace(b"weights", b"weighty")) for n, d in members()]
    opened = BundleArchive(pack(tmp_path / name, entries))
    with pytest.raises(IntegrityError, match="does not match its SHA-256"):
        opened.read("experts/a.safetensors")
    entries = [(n, d + b"!" if n == "README.md" else d) for n, d in members()]
    opened = BundleArchive(pack(tmp_path / name, entries))
    with pytest.raises(IntegrityError, match="size"):
        opened.read("README.md")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    tarred(path, members(), "w")
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(IntegrityError, match="link, a device"):
        BundleArchive(path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "b.zip", members())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(IntegrityError, match="link"):
        BundleArchive(path)


@BOTH
def test_a_bomb_is_refused_before_it_is_unpacked(
    pack: Pack, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 16)
    files = {**FILES, "bomb.safetensors": bytes(4 << 20)}
    with pytest.raises(IntegrityError, match="times its size"):
        BundleArchive(pack(tmp_path / name, members(files)))


@BOTH
def test_too_many_members_are_refused(
    pack: Pack, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 20)
    files = {f"f{number}": b"" for number in range(30)}
    with pytest.raises(IntegrityError, match="more than 20 members"):
        BundleArchive(pack(tmp_path / name, members(files)))


@BOTH
def test_a_member_too_large_for_memory_is_refused(
    pack: Pack, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 100)
    opened = BundleArchive(pack(tmp_path / name, members()))
    with pytest.raises(IntegrityError, match="larger than 100"):
        opened.read("experts/a.safetensors")


@pytest.mark.parametrize("name", ["b.zip", "b.tar", "b.tar.gz"])
def test_what_is_no_archive_or_cut_off_is_one_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for data in (b"", b"hello" * 999, gzip.compress(b"hello" * 999)):
        path.write_bytes(data)
        with pytest.raises((IntegrityError, NotFoundError)):
            BundleArchive(path)
    modes = {"b.zip": zipped, "b.tar": lambda p, e: tarred(p, e, "w"), "b.tar.gz": tarred}
    whole = modes[name](path, members()).read_bytes()
    for share in (0.05, 0.1, 0.2):  # the end of a tar is only padding
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises((IntegrityError, NotFoundError)):
            read_all(path)


def test_a_malformed_manifest_is_refused(tmp_path: Path) -> None:
    for data in (b"{}", b"[]", b"[" * 100_000, b'{"format": 1, "files": []}', b"\xff"):
        path = zipped(tmp_path / "b.zip", [("manifest.json", data)])
        with pytest.raises(IntegrityError, match="malformed"):
            BundleArchive(path)
    path = zipped(tmp_path / "b.zip", [("manifest.json", manifest({}, format=99))])
    with pytest.raises(IntegrityError, match="upgrade"):
        BundleArchive(path)
    with pytest.raises(NotFoundError):
        BundleArchive(tmp_path / "missing.zip")
