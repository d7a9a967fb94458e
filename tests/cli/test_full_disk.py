"""A full disk: what was there stays, the file without room is named, no cache fails."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
from command_line import call, content, done

from expertbank import Row
from expertbank.errors import ExpertBankError
from expertbank.files import durable
from expertbank.registry.sqlite import copying
from expertbank.workflows.answering import kept_rows
from expertbank.workflows.answering.kept_rows import KeptRows
from expertbank.workflows.digest_cache import DIGEST_CACHE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
]
NO_SPACE = "No space left on device"
Filled = Callable[[str], None]


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> Filled:
    """Let new files in the folder given be on a disk that is full."""

    def fill(folder: str) -> None:
        opened = os.fdopen

        def on_full_disk(descriptor: int, mode: str) -> IO[Any]:
            if Path(os.readlink(f"/proc/self/fd/{descriptor}")).parent != Path(folder):
                return opened(descriptor, mode)
            os.close(descriptor)
            return open("/dev/full", mode)

        monkeypatch.setattr(durable.os, "fdopen", on_full_disk)

    return fill


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "words",
    [("map", "--svg"), ("forgetting-report", "--html"), ("forgetting-report", "--markdown")],
)
@pytest.mark.parametrize("before", [None, "of before"])
def test_a_page_that_cannot_be_written_leaves_what_was_there(
    bank: Path, tmp_path: Path, filled: Filled, words: tuple[str, str], before: str | None
) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    page = folder / "page"
    if before is not None:
        page.write_text(before)
    filled(str(folder))
    refused = call("--home", bank, *words, page)
    assert refused.code == 1
    assert f"cannot use {page}: {NO_SPACE}" in refused.err
    assert content(folder).keys() == ({"page"} if before else set())
    assert before is None or page.read_text() == before


def test_a_page_goes_where_a_link_points_and_keeps_its_permissions(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    real.chmod(0o600)
    link.symlink_to(real)
    durable.write_named(link, b"after")
    assert link.is_symlink()
    assert (real.read_bytes(), real.stat().st_mode & 0o777) == (b"after", 0o600)
    with open(real, "rb") as standing:
        durable.write_named(Path(f"/dev/fd/{standing.fileno()}"), b"through")
        assert standing.read() == b"through", "whoever has it open sees it"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cache_that_cannot_be_written_fails_nothing(
    bank: Path, tmp_path: Path, filled: Filled
) -> None:
    (bank / DIGEST_CACHE).unlink()
    filled(str(bank))
    done("--home", bank, "export", tmp_path / "bundle")
    assert not (bank / DIGEST_CACHE).exists()
    assert not list(bank.glob(".tmp-*"))


def test_a_copy_of_the_database_that_has_no_room_names_the_copy(
    bank: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = copying.outside_transaction

    @contextmanager
    def full(path: Path, **told: Any) -> Iterator[sqlite3.Connection]:
        with whole(path, **told):
            raise sqlite3.OperationalError("database or disk is full")
        yield

    monkeypatch.setattr(copying, "outside_transaction", full)
    target = tmp_path / "back.db"
    refused = call("--home", bank, "db", "backup", target)
    assert refused.code == 1
    assert f"no space left for {target};" in refused.err
    assert not target.exists()


def test_rows_that_have_no_room_name_the_file_that_was_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(dir: Path) -> IO[bytes]:
        return open("/dev/full", "w+b")

    monkeypatch.setattr(kept_rows, "TemporaryFile", full)
    target = tmp_path / "next.jsonl"

    def keep() -> None:
        with KeptRows(target) as kept:
            places = [kept.put(Row("a row")) for _ in range(3)]
            kept.write([(1, 1, place) for place in places])

    with pytest.raises(ExpertBankError, match=f"cannot write {target}: {NO_SPACE}"):
        keep()
    assert not list(tmp_path.iterdir())


@pytest.fixture
def full_disk(bank: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the bank on a disk of its own that a leftover fills, to the last byte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True
    )
    if made.returncode:
        pytest.skip("only root can mount a disk here")
    try:
        home = Path(shutil.copytree(bank, disk / "bank"))
        folder = next(path for path in (home / "objects").iterdir() if path.is_dir())
        leftover = (folder / ".tmp-leftover").open("wb", buffering=0)
        with leftover, suppress(OSError):  # no space left
            while leftover.write(bytes(4096)):
                pass
        yield home
    finally:
        subprocess.run(["umount", disk], check=True)


def test_gc_frees_a_full_disk_and_then_writes_rows(full_disk: Path) -> None:
    words = ("--home", full_disk, "--json", "gc", "--yes", "--grace", 0)
    refused = call(*words, "--keep-routers", 1)
    assert refused.code == 1
    assert "no space left" in refused.err
    (freed,) = done(*words).document["deleted"]
    assert freed["why"] == "half-written artifact"
    assert freed["bytes"] > 1 << 20
    assert done(*words, "--keep-routers", 1).document["forgotten"] == [1]
    assert done("--home", full_disk, "verify").code == 0
