"""Real commands, broken at one system call, and what is left of the bank afterwards.

Use as a program: ``python injecting.py FOLDER [--sample N] [--seed S]`` prints one JSON list.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from stracing import (
    ENVIRONMENT,
    FAILING,
    LASTING,
    Ended,
    Fault,
    call,
    calls_of,
    command_work,
    finish,
    fork,
    here,
    inject,
)

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "cli")]


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
class Judged:
    """One injection: what was done, how it ended, what was found wrong."""

    command: str
    fault: Fault
    outcome: str
    wrong: tuple[str, ...]


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
        import torch
        from command_line import write_task
        from tiny import build
        from tqdm import tqdm

        torch.set_num_threads(1)
        tqdm.monitor_interval = 0  # else it starts a thread, and forks would not be whole
        build(self.backbone)
        states = self.folder / "states"
        for name in ("none", "bank", "grown", "exported", "removed", "routed", "received", "old"):
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
        shutil.copytree(states / "exported", states / "routed", dirs_exist_ok=True)
        for kind in ("ridge", "mlp"):
            self._need(
                call(home("retrain-router", "--kind", kind)(states / "routed"), self.streams)
            )
        self._need(
            call(home("retrain-router", "--set", "ridge=1")(states / "routed"), self.streams)
        )
        shutil.copytree(states / "bank", states / "received", dirs_exist_ok=True)
        sent, saved = str(states / "received" / "sent"), str(states / "received" / "saved.db")
        self._need(call(home("export", sent, "--for-import")(states / "exported"), self.streams))
        self._need(call(home("db", "backup", saved)(states / "received"), self.streams))
        self._need(call(home("alias", "stable", "1")(states / "received"), self.streams))
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
            Command("gc, old routers", "routed", home("gc", "--yes", "--keep-routers", "1")),
            Command("import", "received", receiving, (0, 3)),
            Command("db restore", "received", restoring),
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
        # The N-th file opened is not the same in every run: a file to read, too, may fail to open.
        allowed = {0, 1, 13} if fault.call == "openat" else {0, 1}
        if "Traceback" in ended.err or ended.code in {70, -1000}:
            yield f"not told as an error: {ended.err[-900:]}"
        elif fault.kind == "interrupt" and ended.code not in {0, 130}:
            yield f"interrupted, it exits {ended.code}: {ended.err[-300:]}"
        elif fault.kind.startswith("E") and ended.code not in allowed:
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


def receiving(place: Path) -> list[str]:
    """``import`` of one task from a bundle beside the bank."""
    return home("import", str(place / "sent"), "--task", "sport")(place)


def restoring(place: Path) -> list[str]:
    """``db restore`` of a copy beside the bank."""
    return home("db", "restore", str(place / "saved.db"), "--yes")(place)


def look_at(place: Path) -> dict[str, list[str]]:
    """Experts, routers, aliases and bundles of a folder, and what ``verify`` says."""
    import sqlite3

    from expertbank.artifacts.bundle import BundleReader
    from expertbank.errors import ExpertBankError, NotFoundError
    from expertbank.workflows.keeping.check import check
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
            others += [f"task {t.name}" for t in registry.tasks(include_removed=True)]
            # An old schema's asset comes without its files.
            found = check(workspace).problems if (bank / "objects").exists() else ()
            problems += [f"verify: {p.what}" for p in found]
            problems += [f"{p.what}" for p in registry.check()]
            purged = {a.digest for a in registry.artifacts() if a.purged_at is not None}
            for expert in registry.experts():
                if expert.digest not in purged:
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
    # A bundle tells git to leave its bytes alone.
    hidden = r"(/|^)\.(?!gitattributes$)"
    return [name for name in names if re.search(rf"\.tmp-|-journal$|{hidden}", name)]


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
    os.environ.update(ENVIRONMENT)
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
