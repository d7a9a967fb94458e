"""A bundle may come from anyone: nothing outside it is read, and nothing unlisted or changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from expertbank.artifacts import bundle as bundles
from expertbank.artifacts.bundle import MANIFEST, BundleReader, BundleWriter
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import ExistsError, IntegrityError, NotFoundError

EXPERT = b"expert bytes"
NAME = "experts/boolq.safetensors"


def content() -> dict[str, Any]:
    return {
        "experts": [
            {
                "id": "boolq@1",
                "task": "boolq",
                "version": 1,
                "digest": sha256_bytes(EXPERT),
                "kind": "classification",
                "labels": ["no", "yes"],
                "file": NAME,
            }
        ],
        "note": "été",
    }


def write(target: Path, **members: bytes) -> str:
    writer = BundleWriter(target)
    writer.add(NAME, EXPERT)
    for name, data in members.items():
        writer.add(name, data)
    digest = writer.finish(content())
    writer.publish()
    return digest


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write(tmp_path / "bundle", router=b"router bytes")
    return tmp_path / "bundle"


def edit(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = bundle / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def listed(bundle: Path, name: str, data: bytes) -> None:
    entry = {"sha256": sha256_bytes(data), "bytes": len(data)}
    edit(bundle, lambda manifest: manifest["files"].update({name: entry}))


def everything(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_bundle_is_read_as_it_was_written(bundle: Path) -> None:
    reader = BundleReader(bundle)
    (expert,) = reader.manifest.experts
    assert (expert.id, expert.task, expert.version) == ("boolq@1", "boolq", 1)
    assert (expert.kind, expert.labels, expert.file) == ("classification", ("no", "yes"), NAME)
    assert reader.read(expert.file) == EXPERT
    assert reader.read("router") == b"router bytes"
    assert reader.manifest.content["note"] == "été"
    assert reader.members == {NAME, "router"}
    reader.check_all()


def test_equal_contents_give_an_equal_digest_wherever_they_are_written(tmp_path: Path) -> None:
    first = write(tmp_path / "one", a=b"1", b=b"2")
    second = write(tmp_path / "two", b=b"2", a=b"1")
    assert first == second == BundleReader(tmp_path / "two").manifest.digest
    assert everything(tmp_path / "one") == everything(tmp_path / "two")
    assert write(tmp_path / "three", a=b"1", b=b"3") != first


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "experts/../../secret",
        "experts/./../../secret",
        "./router",
        "experts//boolq.safetensors",
        ".hidden",
        "experts\\..\\..\\secret",
        "",
        "router\n",
        "a/b/c/d/e/f/g",
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(bundle: Path, name: str) -> None:
    (bundle.parent / "secret").write_bytes(b"secret")
    listed(bundle, name, b"secret")
    with pytest.raises(IntegrityError, match="not a listed member"):
        BundleReader(bundle).read(name)
    with pytest.raises(IntegrityError):
        BundleReader(bundle).check_all()


def test_absolute_names_are_refused(bundle: Path) -> None:
    secret = bundle.parent / "secret"
    secret.write_bytes(b"secret")
    listed(bundle, str(secret), b"secret")
    with pytest.raises(IntegrityError, match="not a listed member"):
        BundleReader(bundle).read(str(secret))


def test_a_link_is_followed_and_what_it_leads_to_is_checked(bundle: Path) -> None:
    elsewhere = bundle.parent / "elsewhere"
    elsewhere.write_bytes(EXPERT)
    (bundle / NAME).unlink()
    (bundle / NAME).symlink_to(elsewhere)
    assert BundleReader(bundle).read(NAME) == EXPERT
    assert BundleReader(bundle).check_all() == ()
    elsewhere.write_bytes(EXPERT.upper())
    for read in (BundleReader(bundle).check_all, lambda: BundleReader(bundle).read(NAME)):
        with pytest.raises(IntegrityError, match="does not match its SHA-256"):
            read()


def test_a_linked_folder_is_followed_too(bundle: Path) -> None:
    (bundle / "experts").rename(bundle.parent / "elsewhere")
    (bundle / "experts").symlink_to(bundle.parent / "elsewhere")
    assert BundleReader(bundle).read(NAME) == EXPERT
    assert BundleReader(bundle).check_all() == ()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere", "missing .a link to nowhere, which is not there"),
        ("router", "missing .a link to router"),
        (".", "a folder, not a regular file"),
        ("/dev/null", "not a regular file"),
        ("/dev/zero", "not a regular file"),
    ],
    ids=["broken", "to itself", "a folder", "a device", "an endless device"],
)
def test_a_link_to_no_file_is_refused_and_named(bundle: Path, target: str, message: str) -> None:
    (bundle / "router").unlink()
    (bundle / "router").symlink_to(target)
    for read in (BundleReader(bundle).check_all, lambda: BundleReader(bundle).read("router")):
        with pytest.raises(IntegrityError, match=f"router is {message}"):
            read()


def test_a_pipe_is_refused_without_waiting_for_it(bundle: Path) -> None:
    (bundle / "router").unlink()
    os.mkfifo(bundle / "router")
    with pytest.raises(IntegrityError, match="not a regular file"):
        BundleReader(bundle).read("router")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"router byteS", "SHA-256"), (b"router", "6 bytes"), (b"", "0 bytes"), (None, "missing")],
    ids=["one byte changed", "shorter", "empty", "gone"],
)
def test_a_member_that_is_not_as_listed_is_refused(
    bundle: Path, data: bytes | None, message: str
) -> None:
    (bundle / "router").unlink()
    if data is not None:
        (bundle / "router").write_bytes(data)
    with pytest.raises(IntegrityError, match=message):
        BundleReader(bundle).read("router")
    with pytest.raises(IntegrityError, match=message):
        BundleReader(bundle).check_all()


def test_an_unlisted_file_is_not_read(bundle: Path) -> None:
    (bundle / "extra").write_bytes(b"more")
    with pytest.raises(IntegrityError, match="not a listed member"):
        BundleReader(bundle).read("extra")


MALFORMED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no format": lambda m: m.pop("format"),
    "a later format": lambda m: m.update(format=2),
    "no experts": lambda m: m.pop("experts"),
    "experts that are no list": lambda m: m.update(experts=3),
    "an expert without a digest": lambda m: m["experts"][0].pop("digest"),
    "an expert that is a word": lambda m: m.update(experts=["boolq"]),
    "a version that is no number": lambda m: m["experts"][0].update(version="one"),
    "no files": lambda m: m.pop("files"),
    "files that are a list": lambda m: m.update(files=[]),
    "a file without a hash": lambda m: m["files"]["router"].pop("sha256"),
    "an infinite size": lambda m: m["files"]["router"].update(bytes=float("inf")),
    "a size that is a word": lambda m: m["files"]["router"].update(bytes="many"),
}


@pytest.mark.parametrize("change", MALFORMED)
def test_a_malformed_manifest_is_refused(bundle: Path, change: str) -> None:
    edit(bundle, MALFORMED[change])
    with pytest.raises(IntegrityError, match=MANIFEST):
        BundleReader(bundle)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b"[" * 100_000, b'{"format": 1e999}'],
    ids=["empty", "cut", "list", "null", "number", "not UTF-8", "bottomless", "overflow"],
)
def test_a_manifest_that_is_no_object_is_refused(bundle: Path, data: bytes) -> None:
    (bundle / MANIFEST).write_bytes(data)
    with pytest.raises(IntegrityError, match=MANIFEST):
        BundleReader(bundle)


def test_a_folder_without_a_manifest_is_not_a_bundle(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(NotFoundError, match="not a bundle"):
            BundleReader(folder)


def test_nothing_is_at_the_target_until_it_is_published(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    writer = BundleWriter(target)
    writer.add("router", b"bytes")
    writer.finish(content())
    assert not target.exists()
    assert BundleReader(writer.folder).read("router") == b"bytes", "it can be verified before"
    writer.publish()
    writer.discard()
    assert BundleReader(target).read("router") == b"bytes"
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


def test_what_was_discarded_leaves_nothing(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "bundle")
    writer.add("router", b"bytes")
    writer.discard()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_is_replaced_whole(bundle: Path) -> None:
    write(bundle, other=b"bytes")
    assert set(everything(bundle)) == {NAME, "other", MANIFEST}
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
    BundleReader(bundle).check_all()


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    write(tmp_path / "bundle")
    BundleReader(tmp_path / "bundle").check_all()


def web_project(folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src" / "app.js").write_text("precious")
    (folder / MANIFEST).write_text('{"name": "my app", "start_url": "."}')


OTHERS: dict[str, Callable[[Path], Any]] = {
    "a folder with a file": lambda folder: (folder / "thesis.tex").write_text("precious"),
    "a folder with a hidden file": lambda folder: (folder / ".env").write_text("precious"),
    "a web project, which has a manifest.json too": web_project,
    "a folder with a dangling link": lambda folder: (folder / "link").symlink_to("nowhere"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_not_a_bundle_is_never_replaced(tmp_path: Path, other: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    OTHERS[other](target)
    before = everything(target)
    with pytest.raises(ExistsError, match="not a bundle"):
        BundleWriter(target)
    assert everything(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    with pytest.raises(ExistsError):
        BundleWriter(tmp_path / "target")
    assert (tmp_path / "target").read_text() == "precious"


def test_a_bundle_that_the_user_put_a_file_into_is_not_replaced(bundle: Path) -> None:
    (bundle / "experts" / "notes.txt").write_text("precious")
    with pytest.raises(ExistsError, match="files that are not"):
        BundleWriter(bundle)
    assert (bundle / "experts" / "notes.txt").read_text() == "precious"


def test_what_came_to_the_target_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    writer = BundleWriter(target)
    writer.add("router", b"bytes")
    writer.finish(content())
    target.mkdir()
    (target / "thesis.tex").write_text("precious")
    with pytest.raises(ExistsError):
        writer.publish()
    writer.discard()
    assert everything(target) == {"thesis.tex": b"precious"}


def test_a_link_to_a_bundle_stays_and_what_it_names_is_replaced(bundle: Path) -> None:
    link = bundle.parent / "current"
    link.symlink_to(bundle)
    write(link, other=b"bytes")
    assert link.is_symlink()
    assert "other" in everything(bundle)
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["bundle", "current"]


def left_behind(target: Path, *, whole: bool = False) -> Path:
    """What an export to ``target`` leaves that is killed while it writes, or before its end."""
    folder = target.parent / f".{target.name}-0123456789ab"
    folder.mkdir()
    (folder / "router").write_bytes(b"half")
    if whole:
        (folder / MANIFEST).write_text("{}")
    return folder


def test_what_a_killed_export_left_goes_before_the_next_one_writes(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    folder, other = left_behind(target), left_behind(tmp_path / "other")
    writer = BundleWriter(target)
    assert not folder.exists(), "its room is free for this one"
    writer.discard()
    assert list(tmp_path.iterdir()) == [other]


def test_the_only_bundle_there_is_goes_only_when_there_is_another(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    folder = left_behind(target, whole=True)
    BundleWriter(target).discard()
    assert folder.exists()
    write(target)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_what_another_export_is_writing_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    slow = BundleWriter(target)
    slow.add("router", b"bytes")
    write(target)
    assert slow.folder.exists()
    slow.finish(content())
    slow.publish()
    assert set(everything(target)) == {"router", MANIFEST}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_is_taken_for_a_killed_exports_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = bundles._hold, []

    def late(folder: Path, *, wait: bool = False) -> int | None:
        if wait and not taken:
            taken.append(folder)
            bundles._clear_beside(tmp_path / "bundle")
        return real(folder, wait=wait)

    monkeypatch.setattr(bundles, "_hold", late)
    writer = BundleWriter(tmp_path / "bundle")
    assert taken == [writer.folder]
    assert writer.folder.exists()
    writer.discard()
