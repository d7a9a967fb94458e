"""A bundle that came through file managers, git and a cache of links still answers the same."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest
from command_line import call, content, done


@pytest.fixture(scope="module")
def whole(made_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its backbone inside, for import too; never write to it."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(made_bank / "bank", folder / "bank")
    done("--home", folder / "bank", "export", folder / "b", "--with-backbone", "--for-import")
    return folder / "b"


def answers(bundle: Path) -> str:
    return done("predict", "--bundle", bundle, "--json", "a good film", "the party vote yes").out


def test_links_noise_and_a_changed_readme_change_no_answer(whole: Path, tmp_path: Path) -> None:
    blobs, here = tmp_path / "blobs", tmp_path / "here"
    shutil.copytree(whole, blobs)
    for path in [path for path in blobs.rglob("*") if path.is_file()]:
        link = here / path.relative_to(blobs)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    (here / "backbone" / ".DS_Store").write_bytes(b"x")
    (here / "backbone" / "._config.json").write_bytes(b"x")
    (here / ".git").mkdir()
    readme = blobs / "README.md"
    readme.write_bytes(readme.read_bytes().replace(b"\n", b"\r\n"))
    told = done("predict", "--bundle", here, "--json", "a good film", "the party vote yes")
    assert told.out == answers(whole)
    (note,) = [line for line in told.err.splitlines() if "README.md" in line]
    assert note.startswith("note: ")
    assert "only its line ends are others" in note
    assert not done("--quiet", "predict", "--bundle", here, "a").err
    new = tmp_path / "new"
    made = done("--home", new, "--json", "import", here).document
    assert {one["task"] for one in made["imported"]} == {"mood", "poll", "sport"}
    assert made["remarks"] == []


def test_what_could_be_loaded_is_refused_beside_the_backbone(whole: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(whole, here)
    (here / "backbone" / "adapter_config.json").write_text("{}")
    refused = call("predict", "--bundle", here, "a good film")
    assert refused.code == 13
    assert "backbone/adapter_config.json" in refused.err
    (here / "backbone" / "adapter_config.json").unlink()
    config = here / "backbone" / "config.json"
    config.chmod(0o644)
    config.write_bytes(config.read_bytes().replace(b"\n", b"\r\n"))
    refused = call("predict", "--bundle", here, "a good film")
    assert refused.code == 13
    assert "config.json" in refused.err
    assert "only its line ends are others" in refused.err


def test_a_read_only_bundle_is_only_read(whole: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(whole, here)
    before = content(here)
    for path in (*here.rglob("*"), here):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        assert answers(here) == answers(whole)
        assert content(here) == before
    finally:
        for path in (here, *here.rglob("*")):
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


def test_a_bundle_tells_git_to_leave_every_byte(whole: Path) -> None:
    assert "* -text" in (whole / ".gitattributes").read_text().splitlines()
    listed = json.loads((whole / "manifest.json").read_text())["files"]
    there = {p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.is_file()}
    assert there == {*listed, "manifest.json"}


def test_what_a_file_manager_put_into_an_export_goes_with_it(
    made_bank: Path, tmp_path: Path
) -> None:
    shutil.copytree(made_bank / "bank", tmp_path / "bank")
    export = ["--home", tmp_path / "bank", "export", tmp_path / "lora", "--format", "peft"]
    done(*export)
    (tmp_path / "lora" / ".DS_Store").write_bytes(b"x")
    done(*export)
    assert not (tmp_path / "lora" / ".DS_Store").exists()
