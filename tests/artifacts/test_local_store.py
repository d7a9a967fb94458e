"""The store gives back the bytes that were put, or says that it cannot; it never holds half."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from expertbank.artifacts.local import LocalStore, open_folder
from expertbank.artifacts.store import ArtifactStore, Unfinished, sha256_bytes
from expertbank.errors import ExpertBankError, InputError, IntegrityError
from expertbank.testing.stores import StoreConformance

DATA = b"an expert's bytes" * 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


class TestLocalStore(StoreConformance):
    @pytest.fixture
    def store(self, root: Path) -> LocalStore:
        return LocalStore(root)

    @pytest.fixture
    def reopen(self, root: Path) -> Callable[[], ArtifactStore]:
        return partial(LocalStore, root)

    def damage(self, store: ArtifactStore, digest: str, data: bytes) -> None:
        path = Path(store.where(digest))
        path.chmod(0o644)
        path.write_bytes(data)

    def interrupt(self, store: ArtifactStore) -> None:
        digest = store.put(DATA)
        (Path(store.where(digest)).parent / ".tmp-0123456789abcdef").write_bytes(DATA[:9])


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if not path.is_dir())


def test_a_file_has_its_digests_name_and_nothing_else_is_there(
    store: LocalStore, root: Path
) -> None:
    digest = store.put(DATA)
    assert files(root) == [root / digest[:2] / f"{digest}.safetensors"]
    assert files(root) == [Path(store.where(digest))]
    assert store.location == str(root)


def test_putting_equal_bytes_again_writes_no_file(store: LocalStore, root: Path) -> None:
    digest = store.put(DATA)
    path = Path(store.where(digest))
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    assert store.put(DATA) == digest
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1
    assert files(root) == [path]


def test_stored_files_are_read_only(store: LocalStore) -> None:
    assert Path(store.where(store.put(DATA))).stat().st_mode & 0o222 == 0


def test_files_that_are_not_the_stores_are_not_listed(store: LocalStore, root: Path) -> None:
    digests = [store.put(bytes([number])) for number in range(20)]
    folder = Path(store.where(digests[0])).parent
    (folder / "notes.safetensors").write_bytes(b"not ours")
    (folder / f"{'0' * 64}.txt").write_bytes(b"not ours")
    (root / "README").write_text("not ours")
    (root / "fe").mkdir(exist_ok=True)
    (root / "fe" / f"{'0' * 64}.safetensors").write_text("in a folder where nobody looks for it")
    assert list(store.digests()) == sorted(digests)
    assert list(store.unfinished()) == []


def test_only_the_stores_own_temporary_files_are_discarded(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    outside = [tmp_path / ".tmp-1", root / ".." / ".tmp-1", root / "ab" / ".." / ".." / ".tmp-1"]
    outside += [root / "ab" / "notes", root / ".tmp-1"]
    (root / "ab").mkdir(parents=True)
    for path in outside:
        path.write_text("precious")
        with pytest.raises(IntegrityError, match="no temporary file"):
            store.discard(Unfinished(str(path), 8, 0.0))
        assert path.read_text() == "precious"


def test_a_probe_refuses_what_cannot_be_written(store: LocalStore, root: Path) -> None:
    root.write_text("a file where the folder should be")
    with pytest.raises(ExpertBankError, match="cannot be written"):
        store.probe()


def test_a_folder_has_a_url(tmp_path: Path) -> None:
    store = open_folder((tmp_path / "with blank").as_uri())
    assert store.location == str(tmp_path / "with blank")
    for url in ("file://server/share", "file:objects", "file:///objects?mode=ro"):
        with pytest.raises(InputError, match="file:///absolute/folder"):
            open_folder(url)


COLLEAGUE = """
import os, sys
from pathlib import Path
from expertbank.artifacts.local import LocalStore
os.umask(0o002)
os.setgroups([])
os.setegid(int(sys.argv[2]))
os.seteuid(int(sys.argv[3]))
store = LocalStore(Path(sys.argv[1]))
print(store.put(b"the same bytes"))
"""


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to be two other users"
)
def test_a_colleagues_file_in_a_shared_folder_becomes_young_again() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if not all(parent.stat().st_mode & 0o001 for parent in root.parents):
            pytest.skip("other users may not enter the folder for temporary files")
        os.chown(root, -1, 7000)
        root.chmod(0o2775)
        for uid in (7001, 7002):
            command = [sys.executable, "-c", COLLEAGUE, str(root), "7000", str(uid)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            path = Path(LocalStore(root).where(done.stdout.strip()))
            assert path.stat().st_mtime > 1
            assert path.stat().st_uid == uid
            assert files(root) == [path]
            os.utime(path, (1, 1))


def test_a_store_that_cannot_be_written_fails_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")
    with pytest.raises(ExpertBankError, match="cannot write"):
        LocalStore(tmp_path / "objects").put(DATA)
    assert files(tmp_path) == [tmp_path / "objects"]


def test_a_full_disk_fails_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on file size makes the kernel refuse the write half-way, as a full disk does."""
    script = """
import resource, signal, sys
from pathlib import Path
from expertbank.artifacts.local import LocalStore
from expertbank.errors import ExpertBankError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    LocalStore(Path(sys.argv[1])).put(bytes(100_000))
except ExpertBankError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "objects")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "cannot write" in done.stdout
    assert files(tmp_path) == []


def test_a_failed_rename_leaves_no_temporary_file(store: LocalStore) -> None:
    target = Path(store.where(sha256_bytes(DATA)))
    target.mkdir(parents=True)  # a folder under the final name: os.replace refuses
    with pytest.raises(ExpertBankError, match="cannot write"):
        store.put(DATA)
    assert files(Path(store.location)) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_bytes_are_synced_before_the_rename_and_the_folder_after(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from expertbank.artifacts.local import LocalStore
LocalStore(Path(sys.argv[1])).put(b"some bytes")
"""
    calls, root = tmp_path / "calls", tmp_path / "objects"
    names = "trace=openat,write,fsync,close,rename,renameat,renameat2,mkdir"
    command = ["strace", "-f", "-y", "-o", str(calls), "-e", names]
    done = subprocess.run(
        [*command, sys.executable, "-c", script, str(root)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    digest = sha256_bytes(b"some bytes")
    folder = root / digest[:2]
    steps = []
    for line in calls.read_text().splitlines():
        if str(root) not in line and f"<{tmp_path}>" not in line:
            continue
        if (match := re.search(r"\b(fsync|write)\(\d+<([^>]*)>", line)) or (
            match := re.search(r"\b(mkdir)\(\"([^\"]*)\"", line)
        ):
            steps.append((match[1], match[2]))
        elif re.search(r"\brename", line):
            steps.append(("rename", re.findall(r"\"([^\"]*)\"", line)[-1]))
    (temporary,) = {path for name, path in steps if name == "write" and ".tmp-" in path}
    assert Path(temporary).parent == folder, "a rename is atomic within one file system only"
    assert steps == [
        ("mkdir", str(root)),
        ("fsync", str(tmp_path)),
        ("mkdir", str(folder)),
        ("fsync", str(root)),
        ("write", temporary),
        ("fsync", temporary),
        ("rename", str(store_path(root, digest))),
        ("fsync", str(folder)),
        ("fsync", str(root)),
    ]


def store_path(root: Path, digest: str) -> Path:
    return Path(LocalStore(root).where(digest))


WRITER = """
import os, sys
from pathlib import Path
from expertbank.artifacts.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
number = 0
while True:
    digest = store.put(os.urandom(8) * (1 + number * 997 % 60_000))
    os.write(1, digest.encode() + b"\\n")
    number += 1
"""


@pytest.mark.parametrize("delay", [0.01, 0.037, 0.083, 0.15])
def test_a_process_killed_while_it_writes_leaves_whole_files_only(
    tmp_path: Path, delay: float
) -> None:
    root = tmp_path / "objects"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        acknowledged = [process.stdout.readline()]  # it is in full swing now
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    acknowledged += rest.splitlines(keepends=True)
    store = LocalStore(root)
    stored = list(store.digests())
    whole = [line.decode().strip() for line in acknowledged if line.endswith(b"\n")]
    assert whole
    assert set(whole) <= set(stored), "what was acknowledged is there"
    for digest in stored:
        assert sha256_bytes(store.get(digest)) == digest
    strangers = [path for path in files(root) if path.suffix != ".safetensors"]
    assert all(path.name.startswith(".tmp-") for path in strangers)
    assert len(strangers) <= 1
    assert store.get(store.put(DATA)) == DATA


def test_a_folder_on_a_disk_without_links_is_claimed_by_one_bank(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a disk (SMB, exFAT) is not to be had here."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    store.claim("a" * 32)
    store.claim("a" * 32)
    with pytest.raises(InputError, match="another bank's"):
        store.claim("b" * 32)
    assert store.owner() == "a" * 32
    assert not list(store.unfinished())


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_no_plain_file_is_refused_unread(store: LocalStore, kind: str) -> None:
    digest = store.put(DATA)
    path = Path(store.where(digest))
    path.unlink()
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(IntegrityError, match=r"no plain file.*backup"):
        store.get(digest)


def test_a_link_to_the_file_itself_is_read(store: LocalStore, tmp_path: Path) -> None:
    digest = store.put(DATA)
    path = Path(store.where(digest))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.get(digest) == DATA
