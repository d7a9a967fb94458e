"""Commands in forks, and one fault at one of their system calls, by ``strace``.

Everything is imported once; a command is then a fork of this process, and ``strace`` attaches to
it before it begins. So a fault costs what the command costs, not what importing torch costs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TRACED = (
    *("write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "unlink"),
    *("unlinkat", "rmdir", "mkdir", "mkdirat", "openat", "ftruncate", "link", "linkat"),
    *("chmod", "fchmod", "utimensat"),
)
"""Every call through which a command can change what is on the disk."""

FAILING = ("write", "pwrite64", "fsync", "fdatasync", "openat", "mkdir", "rename", "renameat2")
"""Calls that fail on a full or broken disk."""

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What a process needs so that it has one thread and its forks are whole."""

LASTING = {"pwrite64": "ENOSPC", "fsync": "EIO", "fdatasync": "EIO"}
"""How a disk fails from one call on, for good."""

PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)
PATIENCE = 120.0


@dataclass(frozen=True)
class Fault:
    """What happens at the ``nth`` call named ``call``."""

    kind: str
    call: str
    nth: int

    @property
    def injection(self) -> str:
        """The fault in strace's words."""
        what = {"kill": "signal=KILL", "interrupt": "signal=INT"}.get(self.kind)
        error, _, lasting = self.kind.partition(" ")
        return f"{self.call}:{what or f'error={error}'}:when={self.nth}{'+' if lasting else ''}"


@dataclass(frozen=True)
class Ended:
    """How a forked command ended: exit code or minus the signal, and both its streams."""

    code: int
    out: str
    err: str


def available() -> str | None:
    """Why faults cannot be injected here, or ``None``."""
    if not sys.platform.startswith("linux") or shutil.which("strace") is None:
        return "faults are injected with strace, on Linux"
    tried = subprocess.run(
        ["strace", "-qq", "-e", "inject=write:error=ENOSPC", "sh", "-c", "echo x"],
        capture_output=True,
        check=False,
    )
    return None if tried.returncode else f"strace cannot trace here: {tried.stderr.decode()[:200]}"


def fork(work: Callable[[], int], streams: Path, gate: int | None = None) -> int:
    """Start ``work`` in a fork whose output goes to files; it begins when ``gate`` opens."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        for stream, end in ((1, "out"), (2, "err")):
            descriptor = os.open(f"{streams}.{end}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, stream)
            os.close(descriptor)
        if gate is not None:
            ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.read(gate, 1)
        code = work()
    except BaseException:  # noqa: BLE001 (nothing of the child may return to the parent's code)
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            gc.collect()  # as a process that ends: connections are closed
        os._exit(code)


def finish(child: int, streams: Path) -> Ended:
    """Wait for a fork; one that hangs is killed and says so."""
    limit = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return Ended(-1000, "", "it hung")
        time.sleep(0.001)
    texts = [Path(f"{streams}.{end}").read_text(errors="replace") for end in ("out", "err")]
    return Ended(os.waitstatus_to_exitcode(status), *texts)


def command_work(words: Sequence[str]) -> Callable[[], int]:
    """The real command, as its process runs it after its imports."""

    def work() -> int:
        from expertbank_cli.main import run

        try:
            run(words)
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    return work


def call(words: Sequence[str], streams: Path) -> Ended:
    """Run a command in a fork, without a fault."""
    return finish(fork(command_work(words), streams), streams)


def here(words: Sequence[str], streams: Path, allowed: Sequence[int] = (0,)) -> None:
    """Run a command in this process."""
    with (
        Path(f"{streams}.here").open("w") as text,
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(text),
    ):
        code = command_work(words)()
    if code not in allowed:
        raise RuntimeError(f"{words} exited {code}: {Path(text.name).read_text()}")


def traced(work: Callable[[], int], streams: Path, options: Sequence[str]) -> Ended:
    """Run ``work`` in a fork that strace watches from its first step."""
    reader, writer = os.pipe()
    child = fork(work, streams, reader)
    with subprocess.Popen(
        ["strace", "-qq", "-f", *options, "-p", str(child)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as tracer:
        status = Path(f"/proc/{child}/status")
        while "TracerPid:\t0\n" in status.read_text() and tracer.poll() is None:
            time.sleep(0.0005)
        if tracer.poll() is not None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert tracer.stderr is not None
            raise RuntimeError(f"strace did not attach: {tracer.stderr.read()}")
        os.write(writer, b"!")
        os.close(reader)
        os.close(writer)
        return finish(child, streams)


def inject(work: Callable[[], int], streams: Path, fault: Fault) -> Ended:
    """Run ``work`` with one fault."""
    options = ["-o", "/dev/null", "-e", f"trace={fault.call}", "-e", f"inject={fault.injection}"]
    return traced(work, streams, options)


@dataclass(frozen=True)
class Call:
    """One call of a run without a fault: the ``nth`` of its name."""

    name: str
    nth: int
    text: str

    @property
    def writes(self) -> bool:
        """Whether it changes a file: opening one counts only if it may make it."""
        return self.name != "openat" or "O_CREAT" in self.text

    @property
    def shows(self) -> bool:
        """Whether it prints, or talks to another process, rather than writing a file."""
        return re.match(r"write\((1|2)<|write\(\d+<(pipe|socket|anon)", self.text) is not None


def calls_of(work: Callable[[], int], streams: Path) -> tuple[Ended, list[Call]]:
    """Every traced call of a whole run, in order; each kind counted from 1."""
    log = streams.with_suffix(".strace")
    known = ",".join(f"?{name}" for name in TRACED)
    ended = traced(work, streams, ["-y", "-o", str(log), "-e", f"trace={known}"])
    found, counts, main = [], dict.fromkeys(TRACED, 0), None
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"(\d+)\s+((\w+)\(.*)", line)
        if match is None:
            continue
        main = main or match[1]
        if match[1] == main:
            counts[match[3]] += 1
            found.append(Call(match[3], counts[match[3]], match[2]))
    return ended, found
