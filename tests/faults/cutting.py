"""A bank's life in PostgreSQL and a store, with one fault in it, and what is left afterwards.

The same operations are done in every case, each again where it failed, as a user would. What the
bank knows at the end is compared with what it knows after a life without faults: nothing that was
acknowledged is lost, nothing was done twice, nothing is half there.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from bucket_server import ENVIRONMENT, FAULTS, Bucket, FaultProxy
from cutting_proxy import CUTS, CuttingProxy
from postgres_server import PostgresServer
from stored_files import BACKBONE, stored_expert, stored_router

from expertbank.errors import ExistsError, ExpertBankError
from expertbank.records import ExportRecord
from expertbank.registry.postgres.database import PostgresDatabase
from expertbank.testing.bank_rows import run, sha
from expertbank.workflows.home import DatabaseHome
from expertbank.workflows.keeping.check import check
from expertbank.workflows.keeping.collect import collect
from expertbank.workflows.keeping.remove import remove
from expertbank.workflows.workspace import Workspace

SESSION = ("terminate",)
"""What the server does before a message: end every session of the database."""
RESTARTS = ("restart", "crash")
"""What becomes of the server at a message: an orderly restart, or one without."""
ATTEMPTS = 4
Told = tuple[object, ...]
Operation = Callable[[Workspace], object]


@dataclass(frozen=True)
class Case:
    """Which fault, at which messages to the database or requests to the store.

    Once one failed, those that follow come a little later in the life.
    """

    kind: str
    at: tuple[int, ...]


@dataclass(frozen=True)
class Judged:
    """A case and how it ended.

    Attributes:
        case: the fault.
        outcome: ``unnoticed``, ``told`` (an operation failed, and succeeded when done again), or
            ``told, was done`` (it had been committed nevertheless).
        wrong: what must not be; empty if nothing.
    """

    case: Case
    outcome: str
    wrong: str


class Bench:
    """Two servers with a proxy before each, and the life that is lived on them.

    Args:
        server: PostgreSQL.
        template: name of a database with a new registry.
        bucket: an S3; without one the store is a folder.
    """

    def __init__(self, server: PostgresServer, template: str, bucket: Bucket | None) -> None:
        self.server = server
        self.template = template
        self.bucket = bucket
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.statements = CuttingProxy(server.port)
        self._stack.callback(self.statements.close)
        self.requests = FaultProxy(bucket.port) if bucket else None
        if self.requests is not None:
            self._stack.callback(self.requests.close)
            os.environ.update(ENVIRONMENT)
        self._lives = 0
        self._restarting = Lock()
        self.expected, self.messages, self.asked = self._measure()

    def close(self) -> None:
        self._stack.close()

    def _measure(self) -> tuple[Told, int, int]:
        statements, requests = self.statements.sent, self._asked()
        told, outcome, wrong = self._life()
        assert outcome == "unnoticed", outcome
        assert not wrong, wrong
        return told, self.statements.sent - statements, self._asked() - requests

    def _asked(self) -> int:
        return len(self.requests.seen) if self.requests else 0

    def judge(self, case: Case) -> Judged:
        """Live the life once with one fault."""
        start = self._asked() if case.kind in FAULTS else self.statements.sent
        hit = {start + at for at in case.at}
        if case.kind in FAULTS:
            assert self.requests is not None
            self.requests.fault = lambda number, *_: case.kind if number in hit else None
        else:
            self.statements.at = lambda number: self._hit(case) if number in hit else None
        try:
            told, outcome, wrong = self._life()
        finally:
            self.statements.at = lambda number: None
            if self.requests is not None:
                self.requests.fault = lambda number, method, path: None
        if not wrong and told != self.expected:
            pairs = zip(told, self.expected, strict=True)
            wrong = f"differs: {[pair for pair in pairs if pair[0] != pair[1]][:1]}"
        return Judged(case, outcome, wrong)

    def _hit(self, case: Case) -> str | None:
        if case.kind in CUTS:
            return case.kind
        if case.kind in RESTARTS:
            with self._restarting:
                self.server.restart(signal.SIGINT if case.kind == "restart" else signal.SIGQUIT)
            return None
        self.server.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{self._database}'",
        )
        return None

    def _life(self) -> tuple[Told, str, str]:
        self._lives += 1
        self._database = self.server.borrow(self.template)
        url = self.server.url(self._database, port=self.statements.port)
        store = (self.folder / f"files{self._lives}").as_uri()
        direct = store
        if self.bucket is not None and self.requests is not None:
            store = self.bucket.url(f"life{self._lives}", port=self.requests.port)
            direct = self.bucket.url(f"life{self._lives}")
        home = DatabaseHome(PostgresDatabase.at(url), self.folder / "cache")
        outcomes, wrong = [], ""
        try:
            for operation in operations(store):
                outcomes.append(self._persist(home, operation))
        except Exception as error:  # noqa: BLE001 - told of as what is wrong
            wrong = (
                f"{type(error).__name__}: {error}; {traceback.format_tb(error.__traceback__)[-6:]}"
            )
        self.statements.at = lambda number: None
        with self._restarting:  # the last message may have been the one that it was told at
            self.server.wait()
        plain = DatabaseHome(
            PostgresDatabase.at(self.server.url(self._database)), self.folder / "cache"
        )
        told, problems = known(plain, direct)
        self.server.give_back(self._database)
        outcome = next((o for o in ("told, was done", "told") if o in outcomes), "unnoticed")
        return told, outcome, wrong or problems

    def _persist(self, home: DatabaseHome, operation: Operation) -> str:
        """Do it as commands would, each with a bank of its own, until one succeeds."""
        outcome = "unnoticed"
        for _ in range(ATTEMPTS):
            workspace = None
            try:
                workspace = Workspace.open(home, lock_wait=10)
                operation(workspace)
            except ExistsError:
                if outcome == "unnoticed":
                    raise
                return "told, was done"
            except ExpertBankError as error:
                if "\n" in str(error):
                    raise AssertionError("an error of several lines") from error
                outcome = "told"
                with self._restarting:  # who runs it again does so when the server is back
                    pass
            else:
                return outcome
            finally:
                if workspace is not None:
                    workspace.close()
        raise AssertionError("it failed as often as it was tried")


def operations(store: str) -> Sequence[Operation]:
    """A short life in which everything happens that writes."""

    def make(workspace: Workspace) -> None:
        workspace.store_url = store
        with workspace.making():
            workspace.claim_store()
            workspace.registry.set_backbone(replace(BACKBONE, store=store))

    def add(task: str, version: int) -> Operation:
        def work(workspace: Workspace) -> None:
            with workspace.writing():
                parts = stored_expert(workspace.store, task, version)
                workspace.registry.commit_expert(**parts)

        return work

    def route(workspace: Workspace) -> None:
        registry = workspace.registry
        with workspace.writing():
            registry.commit_router(
                **stored_router(workspace.store, registry.members()),
                expected_generation=registry.generation(),
                activate=True,
                reason="test",
            )

    return (
        make,
        add("boolq", 1),
        add("sst2", 1),
        route,
        add("boolq", 2),
        route,
        lambda bank: bank.registry.set_alias("stable", 1, "known good"),
        lambda bank: bank.registry.set_group(["boolq", "sst2"], "texts", run("group")),
        lambda bank: remove(bank, "sst2"),
        route,
        lambda bank: bank.registry.set_alias("stable", "active", "newer"),
        lambda bank: collect(bank, purge_removed=True, keep_routers=1, grace_hours=0),
        lambda bank: bank.registry.commit_export(
            ExportRecord(sha("bundle"), "bundle", "out", 3, ("boolq@2",))
        ),
        lambda bank: bank.registry.probe_writable(),
    )


def known(home: DatabaseHome, store: str) -> tuple[Told, str]:
    """What does not depend on time and place, asked without a proxy; and what is wrong."""
    workspace = Workspace.open(home, read_only=True)
    try:
        registry = workspace.registry
        workspace._stores[_recorded(workspace)] = home.store(store)
        verified = check(workspace)
        told: Told = (
            [(task.name, task.group, task.removed_at is None) for task in registry.tasks(True)],
            [(one.id, one.digest) for one in registry.experts()],
            [
                (r.version, r.digest, r.members, r.groups, r.forgotten_at is None)
                for r in registry.routers()
            ],
            registry.aliases(),
            [(e.name, e.router_version, e.previous_version) for e in registry.alias_events()],
            [(e.expert_id, e.router_version, e.artifact_digest) for e in registry.evaluations()],
            [(a.digest, a.purged_at is None) for a in registry.artifacts()],
            sorted((event.kind, event.subject) for event in registry.history()),
            registry.generation(),
            list(workspace.store.digests()),
        )
        return told, "; ".join(problem.what for problem in verified.problems)
    finally:
        workspace.close()


def _recorded(workspace: Workspace) -> str | None:
    record = workspace.registry.backbone()
    return record.store if record else None


def cases(
    bench: Bench, kinds: Sequence[str], sample: int | None, seed: int, each: int = 1
) -> Iterator[Case]:
    """Every fault at every message or request, or so many of them, drawn evenly over the life.

    Args:
        bench: where the life was measured.
        kinds: the faults.
        sample: how many faults in all; default all.
        seed: of the draw.
        each: faults in one life, far apart.
    """
    for kind in kinds:
        count = bench.asked if kind in FAULTS else bench.messages
        wanted = count if sample is None else min(count, max(1, sample // len(kinds)))
        chance = random.Random(f"{seed}{kind}")
        step = count / wanted
        places = [min(count - 1, int((n + chance.random()) * step)) for n in range(wanted)]
        if sample is None:
            places = list(range(count))
        lives = -(-len(places) // each)
        for first in range(lives):
            yield Case(kind, tuple(places[first::lives]))
