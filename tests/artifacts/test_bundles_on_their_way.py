"""Bundles as they arrive: through git, file managers, caches of links, archives of a Mac."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from expertbank.artifacts.archive import BundleArchive
from expertbank.artifacts.bundle import MANIFEST, BundleReader, BundleWriter
from expertbank.artifacts.noise import AS_THEY_ARE, GITATTRIBUTES, is_document, is_noise
from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import ExistsError, ExpertBankError, IntegrityError, NotFoundError

FILES = {
    "experts/a.safetensors": b"weights\0\n\r\n",
    "backbone/config.json": b'{\n  "a": 1\n}\n',
    "backbone/model.safetensors": b"more weights\0",
    "README.md": b"# read\n\nme\n",
    GITATTRIBUTES: AS_THEY_ARE,
}
NOISE = (
    ".DS_Store",
    "._model.safetensors",
    "Thumbs.db",
    "desktop.ini",
    "Icon\r",
    ".gitignore",
    ".git/config",
    "__MACOSX/._config.json",
    "config.json~",
    "config.json.bak",
    "config.json.orig",
    "#config.json#",
    ".#config.json",
    ".config.json.swp",
    ".cache/x",
    "lost+found/x",
    ".ipynb_checkpoints/config-checkpoint.json",
    ".nfs000001",
    "@eaDir/x",
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    writer = BundleWriter(tmp_path / "bundle")
    for name, data in FILES.items():
        writer.add(name, data)
    writer.finish({"experts": []})
    writer.publish()
    return tmp_path / "bundle"


def checked(folder: Path) -> tuple[str, ...]:
    """Remarks on a folder whose members are all read as they were written."""
    reader = BundleReader(folder)
    remarks = reader.check_all()
    reader.require_backbone()
    for name, data in FILES.items():
        if not is_document(name):
            assert reader.read(name) == data
    return remarks


def windows(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("place", ["", "backbone", "experts"])
@pytest.mark.parametrize("name", NOISE)
def test_what_systems_and_tools_leave_behind_is_not_looked_at(
    bundle: Path, place: str, name: str
) -> None:
    path = bundle / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"anything")
    assert checked(bundle) == ()


def test_no_member_of_a_bundle_is_taken_for_noise() -> None:
    for name in (*FILES, MANIFEST, "router.safetensors", "backbone/tokenizer.json", "a/vocab.txt"):
        assert not is_noise(name)


def test_a_document_that_was_changed_or_lost_is_remarked(bundle: Path) -> None:
    readme = bundle / "README.md"
    windows(readme)
    (remark,) = checked(bundle)
    assert "README.md has 14 bytes, the manifest says 11: only its line ends are others" in remark
    assert "* -text" in remark
    readme.write_bytes(b"# read\n\nus\n")
    assert "does not match its SHA-256" in checked(bundle)[0]
    readme.unlink()
    assert "README.md is missing" in checked(bundle)[0]
    readme.mkdir()
    assert "README.md is a folder" in checked(bundle)[0]


@pytest.mark.parametrize("name", [name for name in FILES if not is_document(name)])
def test_what_is_loaded_must_be_as_listed(bundle: Path, name: str) -> None:
    path = bundle / name
    data = path.read_bytes()
    for other in (data + b"\n", data[:-1] + b"x", b""):
        path.write_bytes(other)
        with pytest.raises(IntegrityError, match=name):
            checked(bundle)
    path.unlink()
    with pytest.raises(IntegrityError, match=f"{name} is missing"):
        checked(bundle)


def test_line_ends_of_what_is_loaded_are_refused_and_explained(bundle: Path) -> None:
    windows(bundle / "backbone" / "config.json")
    with pytest.raises(IntegrityError, match="only its line ends are others; git does that"):
        checked(bundle)


def test_a_manifest_with_other_line_ends_is_read_and_its_digest_explained(bundle: Path) -> None:
    before = BundleReader(bundle).digest
    windows(bundle / MANIFEST)
    (remark,) = checked(bundle)
    assert "which is the bundle's digest" in remark
    assert BundleReader(bundle).digest == sha256_bytes((bundle / MANIFEST).read_bytes()) != before


def test_what_nobody_listed_is_remarked_and_not_read(bundle: Path) -> None:
    (bundle / "notes.txt").write_text("mine")
    (bundle / "experts" / "b.safetensors").write_text("mine")
    (remark,) = checked(bundle)
    assert "not in the manifest, and not read: notes.txt, experts/b.safetensors" in remark
    (bundle / "src").mkdir()
    assert checked(bundle) == (remark,), "folders beside the bundle are the user's"


@pytest.mark.parametrize(
    "name",
    [
        "adapter_config.json",
        "pytorch_model.bin",
        "added_tokens.json",
        "modeling_x.py",
        "notes.txt",
        "additional_chat_templates/x.jinja",
    ],
)
def test_what_a_loader_may_read_is_refused_beside_a_backbone(bundle: Path, name: str) -> None:
    path = bundle / "backbone" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with pytest.raises(IntegrityError, match=f"backbone/{name.partition('/')[0]}; a loader may"):
        checked(bundle)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "NOTICE.txt", ".gitattributes"])
def test_documents_beside_a_backbone_are_no_harm(bundle: Path, name: str) -> None:
    (bundle / "backbone" / name).write_text("read me")
    assert checked(bundle) == ()


def test_a_cache_of_links_is_read(bundle: Path, tmp_path: Path) -> None:
    """As the Hub's cache, DVC and others lay files out: each a link to its content."""
    blobs, linked = tmp_path / "blobs", tmp_path / "linked"
    blobs.mkdir()
    for path in [path for path in bundle.rglob("*") if path.is_file()]:
        blob = blobs / sha256_bytes(path.read_bytes())
        shutil.copy(path, blob)
        (linked / path.relative_to(bundle)).parent.mkdir(parents=True, exist_ok=True)
        (linked / path.relative_to(bundle)).symlink_to(blob)
    assert checked(linked) == ()
    (tmp_path / "current").symlink_to(linked)
    assert checked(tmp_path / "current") == ()


def test_a_mounted_config_map_is_read(bundle: Path, tmp_path: Path) -> None:
    """As Kubernetes mounts one: files and folders are links through ``..data``."""
    mount = tmp_path / "mount"
    shutil.copytree(bundle, mount / "..2026_01_01")
    (mount / "..data").symlink_to("..2026_01_01")
    for entry in (mount / "..2026_01_01").iterdir():
        (mount / entry.name).symlink_to(f"..data/{entry.name}")
    assert checked(mount) == ()


def test_a_manifest_that_is_no_file_is_named(bundle: Path) -> None:
    (bundle / MANIFEST).rename(bundle / "gone")
    (bundle / MANIFEST).symlink_to("nowhere")
    with pytest.raises(NotFoundError, match="a link to nowhere, which is not there"):
        BundleReader(bundle)
    (bundle / MANIFEST).unlink()
    (bundle / MANIFEST).mkdir()
    with pytest.raises(IntegrityError, match="is a folder"):
        BundleReader(bundle)


def test_a_file_that_cannot_be_read_is_named_in_one_line(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Taking the right away is not enough where root runs the tests, who may read everything.
    def refuse(path: Path, *_: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    reader = BundleReader(bundle)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ExpertBankError, match=r"cannot read .*a\.safetensors: Permission denied"):
        reader.read("experts/a.safetensors")


def test_names_that_differ_in_case_alone_are_the_listed_ones_where_names_have_no_case(
    bundle: Path,
) -> None:
    # The same file under both spellings, as such a file system shows it.
    (bundle / "backbone" / "CONFIG.JSON").hardlink_to(bundle / "backbone" / "config.json")
    assert checked(bundle) == ()
    (bundle / "backbone" / "CONFIG.JSON").unlink()
    (bundle / "backbone" / "CONFIG.JSON").write_text("{}")
    with pytest.raises(IntegrityError, match=r"CONFIG\.JSON"):
        checked(bundle)


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
@pytest.mark.parametrize("kept", [True, False], ids=["as exported", "without .gitattributes"])
def test_git_with_windows_line_ends_changes_no_byte_of_an_export(
    bundle: Path, tmp_path: Path, kept: bool
) -> None:
    def git(*words: str) -> None:
        settings = ("-c", "core.autocrlf=true", "-c", "user.name=x", "-c", "user.email=x@x")
        subprocess.run(["git", *settings, *words], check=True, capture_output=True)

    if not kept:
        (bundle / ".gitattributes").unlink()
    git("init", "-q", str(bundle))
    git("-C", str(bundle), "add", "--all")
    git("-C", str(bundle), "commit", "-qm", "a bundle")
    git("clone", "-q", str(bundle), str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    if kept:
        assert checked(clone) == ()
        return
    assert b"\r\n" in (clone / "README.md").read_bytes()
    with pytest.raises(IntegrityError, match=r"config\.json .*: only its line ends are others"):
        BundleReader(clone).check_all()


def test_an_older_bundle_is_replaced_with_what_systems_put_into_it(bundle: Path) -> None:
    (bundle / ".DS_Store").write_bytes(b"x")
    (bundle / "experts" / "Thumbs.db").write_bytes(b"x")
    BundleWriter(bundle).discard()
    (bundle / ".env").write_text("mine")
    with pytest.raises(ExistsError):
        BundleWriter(bundle)


def test_a_repository_is_not_replaced(bundle: Path) -> None:
    (bundle / ".git").mkdir()
    (bundle / ".git" / "HEAD").write_text("ref: refs/heads/main")
    with pytest.raises(ExistsError, match="files that are not its own"):
        BundleWriter(bundle)


@pytest.mark.parametrize("top", ["", "bundle/"])
def test_an_archive_made_on_a_mac_is_read(bundle: Path, tmp_path: Path, top: str) -> None:
    path = tmp_path / "bundle.zip"
    windows(bundle / "README.md")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in [file for file in bundle.rglob("*") if file.is_file()]:
            name = f"{top}{file.relative_to(bundle).as_posix()}"
            archive.write(file, name)
            folder, _, last = name.rpartition("/")
            archive.writestr(f"__MACOSX/{folder}/._{last}".replace("//", "/"), b"fork")
        archive.writestr(f"{top}.DS_Store", b"x")
        archive.writestr(f"{top}LICENSE", b"x")
        archive.writestr(f"{top}backbone/Thumbs.db", b"x")
    opened = BundleArchive(path)
    assert opened.read("experts/a.safetensors") == FILES["experts/a.safetensors"]
    assert opened.members == set(FILES)
    assert opened.digest == BundleReader(bundle).digest
    assert json.loads((bundle / MANIFEST).read_text())["files"].keys() == opened.members
