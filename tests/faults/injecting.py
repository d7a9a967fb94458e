"""Real commands with a real fault at one system call, and what is left of the bank afterwards.

Everything is imported once; each command is then a fork of this process, and ``strace`` attaches
to it before it begins and lets the N-th call of one kind kill it, interrupt it, or fail. So a
fault costs what the command costs, not what importing torch costs.

Use as a program: ``python injecting.py FOLDER [--sample N] [--seed S]`` prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "cli")]

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


KINDS = ("kill", "interrupt", "ENOSPC", "EIO", "ENOSPC lasting", "EIO lasting")


@dataclass(frozen=True)
class Command:
    """A command to break.

    Attributes:
        name: for people.
        state: the prepared folder it begins in.
        words: its words, given its folder.
        again: exit codes with which the same command may end after a fault.
        torch: whether it takes long enough to be tried less often.
    """

    name: str
    state: str
    words: Callable[[Path], Sequence[str]]
    again: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Ended:
    """How a forked command ended: exit code or minus the signal, and both its streams."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Judged:
    """One injection: what was done, how it ended, what was found wrong."""

    command: str
    fault: Fault
    outcome: str
    wrong: tuple[str, ...]


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


# -- processes ---------------------------------------------------------------------------------


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


# -- the bank ----------------------------------------------------------------------------------


class Bench:
    """Prepared banks, and commands that are broken on copies of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.streams = folder / "streams"
        self.backbone = folder / "backbone"
        self.turn = 0
        self.states: dict[str, Snapshot] = {}

    def prepare(self) -> None:
        """Build the tiny backbone and, with the real commands, the states to begin from."""
        from backbones import build
        from command_line import write_task
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # else it starts a thread, and forks would not be whole
        build(self.backbone)
        states = self.folder / "states"
        for name in ("none", "bank", "grown", "exported", "removed", "old"):
            (states / name).mkdir(parents=True)
        for task in ("mood", "poll", "sport"):
            write_task(self.folder / f"{task}.csv", task, 40)
        # Run here and not in forks: what they import and set up on their way, forks then have.
        warm = states / "bank"
        for words in (self.add("mood"), self.add("poll", "--retrain-router"), home("verify")):
            here(words(warm), self.streams)
        here(exporting(states / "none"), self.streams, allowed=(10,))
        if len(os.listdir("/proc/self/task")) > 1:
            raise RuntimeError("a thread runs already; forks would not be whole")
        gc.collect()
        gc.freeze()
        shutil.copytree(states / "bank", states / "grown", dirs_exist_ok=True)
        self._need(call(self.add("sport")(states / "grown"), self.streams))
        shutil.copytree(states / "bank", states / "exported", dirs_exist_ok=True)
        self._need(call(exporting(states / "exported"), self.streams))
        self._need(call(self.add("sport", "--retrain-router")(states / "exported"), self.streams))
        shutil.copytree(states / "exported", states / "removed", dirs_exist_ok=True)
        removing = home("remove", "--task", "sport", "--yes", "--retrain-router")
        self._need(call(removing(states / "removed"), self.streams))
        litter(states / "removed" / "bank")
        (states / "old" / "bank").mkdir()
        old = Path(__file__).parents[1] / "assets" / "registry_0001.db"
        shutil.copyfile(old, states / "old" / "bank" / "registry.db")

    def _need(self, ended: Ended) -> None:
        if ended.code:
            raise RuntimeError(f"the bench could not be made: {ended}")

    def add(self, task: str, *more: str) -> Callable[[Path], list[str]]:
        """``add`` of a small task; the backbone is named as its first user would."""
        words = ["add", "--task", task, "--data", str(self.folder / f"{task}.csv")]
        words += ["--epochs", "1", "--batch-size", "20", "--backbone", str(self.backbone), *more]
        return home(*words)

    def commands(self) -> tuple[Command, ...]:
        """What is broken."""
        return (
            Command("init", "none", home("init", "--backbone", str(self.backbone))),
            Command("add, first", "none", self.add("mood"), (0, 3)),
            Command("add", "bank", self.add("sport"), (0, 3)),
            Command("retrain-router", "grown", home("retrain-router")),
            Command("alias", "bank", home("alias", "stable", "1")),
            Command("export", "bank", exporting),
            Command("export, replacing", "exported", exporting),
            Command("remove", "exported", home("remove", "--task", "sport", "--yes")),
            Command("gc", "removed", home("gc", "--yes", "--purge-removed", "--grace", "0")),
            Command("db backup", "bank", backing_up, (0, 3)),
            Command("db upgrade", "old", home("db", "upgrade")),
        )

    @contextlib.contextmanager
    def copy(self, state: str) -> Iterator[Path]:
        """A fresh copy of a prepared folder."""
        self.turn += 1
        place = self.folder / f"turn{self.turn}"
        shutil.copytree(self.folder / "states" / state, place, symlinks=True)
        try:
            yield place
        finally:
            shutil.rmtree(place)

    def faults(self, command: Command) -> list[Fault]:
        """Every fault of every kind for a command, from one run without any."""
        with self.copy(command.state) as place:
            ended, calls = calls_of(command_work(command.words(place)), self.streams)
            self._need(ended)
        found = []
        for one in calls:
            if one.writes:
                found += [Fault("kill", one.name, one.nth), Fault("interrupt", one.name, one.nth)]
            if one.writes and not one.shows and one.name in FAILING:
                found += [Fault("ENOSPC", one.name, one.nth), Fault("EIO", one.name, one.nth)]
            # Not for ``write``: the message of the failure goes through it.
            if one.name in LASTING:
                found.append(Fault(f"{LASTING[one.name]} lasting", one.name, one.nth))
        return found

    def judge(self, command: Command, fault: Fault) -> Judged:
        """Inject one fault and look at what is left."""
        with self.copy(command.state) as place:
            if command.state not in self.states:
                self.states[command.state] = self.snapshot(place)
            before = self.states[command.state]
            words = command.words(place)
            ended = inject(command_work(words), self.streams, fault)
            wrong = list(self.judge_end(fault, ended))
            after = self.snapshot(place)
            wrong += self.judge_bank(before, after, ended)
            if fault.kind != "kill":
                was_there = leftovers(self.folder / "states" / command.state)
                left = [name for name in leftovers(place) if name not in was_there]
                wrong += [f"left behind: {name}" for name in left]
            # A disk that failed and left everything as it was has nothing more to show.
            if fault.kind in {"kill", "interrupt"} or wrong or before.names != after.names:
                wrong += self.judge_again(command, words, place)
        return Judged(command.name, fault, outcome(ended, before, after), tuple(wrong))

    def judge_again(self, command: Command, words: Sequence[str], place: Path) -> Iterator[str]:
        """The same command works now, leaves a whole bank, and clears what was left."""
        again = call(words, self.streams)
        if again.code not in command.again:
            yield f"the command again exits {again.code}: {again.err[-300:]}"
        for problem in self.snapshot(place).problems:
            yield f"after the command again: {problem}"
        if again.code == 0:
            for name in staged(place):
                yield f"still there after the next one: {name}"

    def judge_end(self, fault: Fault, ended: Ended) -> Iterator[str]:
        """A fault that the command survives is told in one line, with its exit code."""
        told = [line for line in ended.err.splitlines() if line.startswith("{")]
        if "Traceback" in ended.err or ended.code in {70, -1000}:
            yield f"not told as an error: {ended.err[-900:]}"
        elif fault.kind == "interrupt" and ended.code not in {0, 130}:
            yield f"interrupted, it exits {ended.code}: {ended.err[-300:]}"
        elif fault.kind.startswith("E") and ended.code not in {0, 1}:
            yield f"a failing disk exits {ended.code}: {ended.err[-300:]}"
        elif ended.code > 0 and not told:
            yield f"no error is told: {ended.err[-300:]!r}"

    def judge_bank(self, before: Snapshot, after: Snapshot, ended: Ended) -> Iterator[str]:
        """Whole, nothing lost, and what was acknowledged is there."""
        yield from after.problems
        lost = before.names - after.names
        if lost:
            yield f"lost: {sorted(lost)}"
        if before.experts and len(after.experts - before.experts) > 1:
            yield f"more than one came: {sorted(after.names - before.names)}"
        said = acknowledged(ended.out)
        if ended.code == 0 and not ended.out.startswith("{"):
            yield "it ended well and said nothing"
        for name in said - after.names:
            yield f"acknowledged and not there: {name}"

    def snapshot(self, place: Path) -> Snapshot:
        """What the bank holds, and what is wrong with it, seen by a process of its own."""
        path = self.folder / "snapshot.json"

        def look() -> int:
            path.write_text(json.dumps(look_at(place)))
            return 0

        ended = finish(fork(look, self.streams.with_name("look")), self.streams.with_name("look"))
        if ended.code:
            return Snapshot(frozenset(), frozenset(), (f"cannot be looked at: {ended.err[-600:]}",))
        found = json.loads(path.read_text())
        return Snapshot(
            frozenset(found["experts"]), frozenset(found["others"]), tuple(found["problems"])
        )


@dataclass(frozen=True)
class Snapshot:
    """Names of what is in a folder, with their digests, and what is wrong."""

    experts: frozenset[str]
    others: frozenset[str]
    problems: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """Everything that may never be lost."""
        return self.experts | self.others


def home(*words: str) -> Callable[[Path], list[str]]:
    """A command on the bank of a folder."""
    return lambda place: ["--home", str(place / "bank"), "--json", *words]


def exporting(place: Path) -> list[str]:
    """``export`` into a folder beside the bank."""
    return home("export", str(place / "bundle"))(place)


def backing_up(place: Path) -> list[str]:
    """``db backup`` to a file beside the bank."""
    return home("db", "backup", str(place / "copy.db"))(place)


def litter(bank: Path) -> None:
    """What killed commands leave in the store: a file without a row, and half of one."""
    import hashlib

    data = b"nobody refers to this"
    folder = bank / "objects" / hashlib.sha256(data).hexdigest()[:2]
    folder.mkdir(exist_ok=True)
    (folder / f"{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)
    (folder / ".tmp-0123456789abcdef").write_bytes(data[:5])


def look_at(place: Path) -> dict[str, list[str]]:
    """Experts, routers, aliases and bundles of a folder, and what ``verify`` says."""
    import sqlite3

    from expertbank.artifacts.bundle import BundleReader
    from expertbank.errors import ExpertBankError, NotFoundError
    from expertbank.workflows.check import check
    from expertbank.workflows.workspace import Workspace

    experts: list[str] = []
    others: list[str] = []
    problems: list[str] = []
    bank = place / "bank"
    if (bank / "registry.db").is_file():
        try:
            workspace = Workspace.open(bank, read_only=True)
        except NotFoundError:
            pass  # made, and nothing committed in it yet
        except ExpertBankError as error:
            if "db upgrade" not in str(error):
                problems.append(f"cannot be opened: {error}")
        else:
            registry = workspace.registry
            experts += [f"expert {e.id} {e.digest}" for e in registry.experts()]
            others += [f"router@{r.version} {r.digest}" for r in registry.routers()]
            others += [f"task {t.name}" for t in registry.tasks()]
            # An old schema's asset comes without its files.
            found = check(workspace).problems if (bank / "objects").exists() else ()
            problems += [f"verify: {p.what}" for p in found]
            problems += [f"{p.what}" for p in registry.check()]
            for expert in registry.experts():
                if registry.artifact(expert.digest).purged_at is None:
                    registry.feature_set(expert.id)
                if not registry.evaluations(expert.id, router_version="oracle"):
                    problems.append(f"{expert.id} has no evaluation")
    for name in ("bundle",):
        if (place / name).exists():
            try:
                BundleReader(place / name).check_all()
                others.append(f"bundle {name}")
            except ExpertBankError as error:
                problems.append(f"{name}: {error}")
    copies = [place / "copy.db", *bank.glob("*.backup")]
    for copy in copies:
        if copy.exists() and copy.stat().st_size:  # an empty one only holds its name
            with contextlib.closing(sqlite3.connect(copy)) as database:
                if database.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                    problems.append(f"{copy.name} is damaged")
    return {"experts": experts, "others": others, "problems": problems}


def acknowledged(out: str) -> frozenset[str]:
    """What a printed result promised to be there, in a snapshot's words."""
    try:
        document = json.loads(out)
    except ValueError:
        return frozenset()
    said = set()
    if "expert" in document:
        said.add(f"expert {document['expert']['id']} {document['expert']['digest']}")
    if isinstance(document.get("router"), dict):
        said.add(f"router@{document['router']['version']} {document['router']['digest']}")
    if document.get("format") == "bundle":
        said.add("bundle bundle")
    return frozenset(said)


def leftovers(place: Path) -> list[str]:
    """Files that only unfinished work has."""
    names = [path.relative_to(place).as_posix() for path in place.rglob("*")]
    return [name for name in names if re.search(r"\.tmp-|-journal$|/\.|^\.", name)]


def staged(place: Path) -> list[str]:
    """Hidden folders and journals that a later command should have cleared."""
    # Half-written files and copies of a database wait for ``gc``: their writers hold no lock.
    waiting = re.compile(r"\.tmp-|\.[0-9a-f]{32}(-journal)?$")
    return [name for name in leftovers(place) if not waiting.search(name)]


def outcome(ended: Ended, before: Snapshot, after: Snapshot) -> str:
    """One word for the table."""
    if ended.code == 0:
        return "done"
    how = {130: "interrupted", 1: "told", -signal.SIGKILL: "killed"}.get(
        ended.code, str(ended.code)
    )
    return f"{how}, {'unchanged' if before.names == after.names else 'whole'}"


def sweep(
    bench: Bench, *, sample: int | None, seed: int, only: Sequence[str] = ()
) -> Iterator[Judged]:
    """Every fault of every command, or ``sample`` of them drawn evenly over the commands."""
    rng = random.Random(seed)
    commands = [c for c in bench.commands() if not only or c.name in only]
    for command in commands:
        faults = bench.faults(command)
        if sample is not None:
            share = max(1, sample // len(commands))
            faults = rng.sample(faults, min(share, len(faults)))
        for fault in faults:
            yield bench.judge(command, fault)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--loud", action="store_true")
    options = parser.parse_args()
    bench = Bench(options.folder)
    bench.prepare()
    started = time.monotonic()
    found = []
    for judged in sweep(bench, sample=options.sample, seed=options.seed, only=options.only):
        found.append(asdict(judged))
        if options.loud and judged.wrong:
            sys.stderr.write(f"{judged}\n")
            sys.stderr.flush()
    sys.stderr.write(f"{len(found)} injections in {time.monotonic() - started:.1f} s\n")
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
