"""Hostile archives are refused whole; nothing is ever unpacked."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from expertbank.artifacts import archive as archives
from expertbank.artifacts.archive import BundleArchive
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import InputError, IntegrityError, NotFoundError

FILES = {"experts/a.safetensors": b"weights" * 50, "README.md": b"read me"}


def manifest(files: dict[str, bytes], **changes: object) -> bytes:
    listed = {
        name: {"sha256": sha256_bytes(data), "bytes": len(data)} for name, data in files.items()
    }
    return json.dumps({"format": 1, "experts": [], "files": listed, **changes}).encode()


def members(files: dict[str, bytes] = FILES) -> list[tuple[str, bytes]]:
    return [("manifest.json", manifest(files)), *files.items()]


def zipped(path: Path, entries: Iterable[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def read_all(path: Path) -> None:
    opened = BundleArchive(path)
    for member in opened.members:
        opened.read(member)


def test_a_sound_archive_gives_checked_bytes(tmp_path: Path) -> None:
    opened = BundleArchive(zipped(tmp_path / "b.zip", members()))
    assert opened.members == set(FILES)
    assert {member: opened.read(member) for member in FILES} == FILES
    assert opened.digest == sha256_bytes(manifest(FILES))
    with pytest.raises(IntegrityError, match="not a listed member"):
        opened.read("manifest.json")


@pytest.mark.parametrize(
    "odd", ["../up", "/abs", "a/../b", ".hidden", "a//b", "a\\b", "C:x", "a/b/c/d/e/f/g", "ü"]
)
def test_names_that_are_not_plain_are_refused(odd: str, tmp_path: Path) -> None:
    files = {**FILES, odd: b"x"}
    with pytest.raises(IntegrityError):
        BundleArchive(zipped(tmp_path / "b.zip", members(files)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_extra_missing_and_double_members_are_refused(tmp_path: Path) -> None:
    for entries, text in (
        ([*members(), ("extra.txt", b"x")], "unlisted"),
        (members()[:-1], "missing"),
        ([*members(), ("README.md", b"other")], "twice"),
    ):
        with pytest.raises(IntegrityError, match=text):
            BundleArchive(zipped(tmp_path / "b.zip", entries))


def test_other_bytes_than_listed_are_refused(tmp_path: Path) -> None:
    entries = [(n, d.replace(b"weights", b"weighty")) for n, d in members()]
    opened = BundleArchive(zipped(tmp_path / "b.zip", entries))
    with pytest.raises(IntegrityError, match="does not match its SHA-256"):
        opened.read("experts/a.safetensors")
    entries = [(n, d + b"!" if n == "README.md" else d) for n, d in members()]
    opened = BundleArchive(zipped(tmp_path / "b.zip", entries))
    with pytest.raises(IntegrityError, match="size"):
        opened.read("README.md")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "b.zip", members())
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(IntegrityError, match="link"):
        BundleArchive(path)


def test_a_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lower limit, so that the bomb is a small one.
    monkeypatch.setattr(archives, "FREE_BYTES", 1 << 16)
    files = {**FILES, "bomb.safetensors": bytes(4 << 20)}
    with pytest.raises(IntegrityError, match="times its size"):
        BundleArchive(zipped(tmp_path / "b.zip", members(files)))


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A lower limit, so that few members will do.
    monkeypatch.setattr(archives, "MAX_MEMBERS", 20)
    files = {f"f{number}": b"" for number in range(30)}
    with pytest.raises(IntegrityError, match="more than 20 members"):
        BundleArchive(zipped(tmp_path / "b.zip", members(files)))


def test_a_member_too_large_for_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A lower limit: the real one is half a gigabyte.
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 100)
    opened = BundleArchive(zipped(tmp_path / "b.zip", members()))
    with pytest.raises(IntegrityError, match="larger than 100"):
        opened.read("experts/a.safetensors")


def test_what_is_no_archive_or_cut_off_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    for data in (b"", b"hello" * 999, gzip.compress(b"hello" * 999)):
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=r"not a readable \.zip"):
            BundleArchive(path)
    whole = zipped(path, members()).read_bytes()
    for share in (0.05, 0.1, 0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises((IntegrityError, NotFoundError)):
            read_all(path)


@pytest.mark.parametrize("name", ["b.tar", "b.tar.gz", "b.tgz", "b.TAR.xz", "b.7z"])
def test_another_kind_of_archive_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"whatever is in it")
    with pytest.raises(InputError, match="unpack it and name the folder"):
        BundleArchive(tmp_path / name)


def test_what_was_opened_is_what_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "b.zip", members())
    opened = BundleArchive(path)
    zipped(tmp_path / "other", members({"README.md": b"other"})).replace(path)
    assert opened.read("README.md") == FILES["README.md"]


def test_a_malformed_manifest_is_refused(tmp_path: Path) -> None:
    nonsense = (b"{}", b"[]", b"[" * 100_000, b"\xff")
    unlisted = (b'{"format": 1, "experts": [], "files": []}', b'{"format": 1, "files": {}}')
    for data in nonsense + unlisted:
        path = zipped(tmp_path / "b.zip", [("manifest.json", data)])
        with pytest.raises(IntegrityError, match="malformed"):
            BundleArchive(path)
    path = zipped(tmp_path / "b.zip", [("manifest.json", manifest({}, format=99))])
    with pytest.raises(IntegrityError, match="upgrade"):
        BundleArchive(path)
    with pytest.raises(NotFoundError):
        BundleArchive(tmp_path / "missing.zip")
