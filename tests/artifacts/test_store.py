"""The store gives back the bytes that were put, or says that it cannot; it never holds half."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expertbank.artifacts.store import LocalStore, sha256_bytes
from expertbank.errors import ExpertBankError, IntegrityError

DATA = b"an expert's bytes" * 1000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects")


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if not path.is_dir())


def test_what_was_put_comes_back_under_its_hash(store: LocalStore) -> None:
    digest = store.put(DATA)
    assert digest == sha256_bytes(DATA)
    assert store.get(digest) == DATA
    assert files(store.root) == [store.root / digest[:2] / f"{digest}.safetensors"]
    assert list(store.digests()) == [digest]


def test_nothing_is_something_too(store: LocalStore) -> None:
    assert store.get(store.put(b"")) == b""


def test_equal_bytes_are_stored_once_and_counted_as_freshly_wanted(store: LocalStore) -> None:
    digest = store.put(DATA)
    path = store.path(digest)
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    assert store.put(DATA) == digest
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1
    assert files(store.root) == [path]


def test_stored_files_are_read_only(store: LocalStore) -> None:
    assert store.path(store.put(DATA)).stat().st_mode & 0o222 == 0


def test_digests_are_listed_in_order_and_strangers_are_not(store: LocalStore) -> None:
    digests = [store.put(bytes([number])) for number in range(20)]
    folder = store.path(digests[0]).parent
    (folder / ".tmp-0123").write_bytes(b"left by a crash")
    (folder / "notes.safetensors").write_bytes(b"not ours")
    (store.root / "README").write_text("not ours")
    assert list(store.digests()) == sorted(digests)


def test_an_empty_store_lists_nothing(store: LocalStore) -> None:
    assert list(store.digests()) == []


@pytest.mark.parametrize("position", [0, len(DATA) // 2, len(DATA) - 1])
def test_one_changed_bit_is_found_at_every_read(store: LocalStore, position: int) -> None:
    digest = store.put(DATA)
    store.path(digest).chmod(0o644)
    changed = bytearray(DATA)
    changed[position] ^= 1
    store.path(digest).write_bytes(changed)
    for _ in range(2):
        with pytest.raises(IntegrityError, match="has changed"):
            store.get(digest)


def test_damaged_bytes_heal_when_the_right_ones_are_put_again(store: LocalStore) -> None:
    digest = store.put(DATA)
    store.path(digest).chmod(0o644)
    store.path(digest).write_bytes(DATA[:-1])
    assert store.put(DATA) == digest
    assert store.get(digest) == DATA


def test_missing_bytes_are_an_integrity_error_that_names_them(store: LocalStore) -> None:
    digest = store.put(DATA)
    store.path(digest).unlink()
    with pytest.raises(IntegrityError, match=digest):
        store.get(digest)


@pytest.mark.parametrize(
    "digest",
    ["", "ab", "../../etc/passwd", "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n"],
)
def test_what_is_no_digest_never_becomes_a_path(store: LocalStore, digest: str) -> None:
    with pytest.raises(IntegrityError, match="not a SHA-256"):
        store.get(digest)
    with pytest.raises(IntegrityError, match="not a SHA-256"):
        store.path(digest)


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
from expertbank.artifacts.store import LocalStore
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
    target = store.path(sha256_bytes(DATA))
    target.mkdir(parents=True)  # a folder under the final name: os.replace refuses
    with pytest.raises(ExpertBankError, match="cannot write"):
        store.put(DATA)
    assert files(store.root) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_bytes_are_synced_before_the_rename_and_the_folder_after(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from expertbank.artifacts.store import LocalStore
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
    return LocalStore(root).path(digest)


WRITER = """
import os, sys
from pathlib import Path
from expertbank.artifacts.store import LocalStore
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


def test_many_processes_may_put_the_same_bytes(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from expertbank.artifacts.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
for number in range(40):
    store.put(bytes([number]) * 50_000)
"""
    root = tmp_path / "objects"
    processes = [subprocess.Popen([sys.executable, "-c", script, str(root)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    store = LocalStore(root)
    assert list(store.digests()) == sorted(sha256_bytes(bytes([n]) * 50_000) for n in range(40))
    for digest in store.digests():
        store.get(digest)
    assert len(files(root)) == 40
