"""Bank operations in any order, against a plain dictionary: what one knows, the other knows."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from postgres_server import PostgresServer, places
from stored_files import BACKBONE, stored_expert, stored_router

from expertbank.artifacts.store import sha256_bytes
from expertbank.errors import ExistsError, NotFoundError, StaleError
from expertbank.registry.registry import Registry
from expertbank.workflows.home import OBJECTS, DatabaseHome, FolderHome, Home
from expertbank.workflows.keeping.check import check
from expertbank.workflows.keeping.collect import collect
from expertbank.workflows.keeping.remove import remove
from expertbank.workflows.workspace import Workspace

TASKS = st.sampled_from(["boolq", "sst2", "rte", "mnli"])


class BankMachine(RuleBasedStateMachine):
    """Every operation is the product's own; the model is dictionaries and lists."""

    def home(self) -> tuple[Home, str | None]:
        """A place for a new bank, and the URL of its store."""
        return FolderHome(self.folder), None

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.place, url = self.home()
        with self.place.location.create() as registry:
            registry.set_backbone(replace(BACKBONE, store=url))
        self.store = self.place.store(url)
        self.versions: dict[str, list[str]] = {}
        self.removed: set[str] = set()
        self.purged: set[str] = set()
        self.routers: dict[int, tuple[str, ...]] = {}
        self.forgotten: set[int] = set()
        self.aliases: dict[str, int] = {}
        self.orphans: set[str] = set()
        self.stale: int | None = None
        self.changes = 0
        self.reopen()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.workspace.close()
            shutil.rmtree(self.folder)

    def reopen(self) -> None:
        if hasattr(self, "workspace"):
            self.workspace.close()
        self.workspace = Workspace.open(self.place)

    @property
    def registry(self) -> Registry:
        return self.workspace.registry

    def members(self) -> tuple[str, ...]:
        alive = sorted(set(self.versions) - self.removed)
        return tuple(f"{task}@{len(self.versions[task])}" for task in alive)

    @rule()
    def another_process(self) -> None:
        self.reopen()

    @rule(task=TASKS, version=st.integers(1, 4))
    def add(self, task: str, version: int) -> None:
        name = f"{task}@{version}"
        parts = stored_expert(self.store, task, version)
        digest, features, statistics, oracle = (artifact.digest for artifact in parts["artifacts"])
        known = self.versions.setdefault(task, [])
        if version <= len(known):
            try:
                self.registry.commit_expert(**parts)
            except ExistsError:
                if name in self.purged:
                    self.orphans |= {digest, features, statistics, oracle}
                return
            raise AssertionError(f"{name} was added twice")
        if version > len(known) + 1:
            if not known:
                del self.versions[task]
            self.orphans |= {digest, features, statistics, oracle}
            return
        self.registry.commit_expert(**parts)
        known.append(digest)
        self.changes += 1
        self.removed.discard(task)
        self.orphans -= {digest, features, statistics, oracle}

    @rule(activate=st.booleans(), late=st.booleans())
    def retrain(self, activate: bool, late: bool) -> None:
        members = self.members()
        generation = self.registry.generation()
        if late and self.stale is not None and self.stale != generation:
            generation = self.stale
        if not members:
            return
        parts = stored_router(self.store, self.registry.members())
        files = {artifact.digest for artifact in parts["artifacts"]}
        try:
            found = self.registry.commit_router(
                **parts, expected_generation=generation, activate=activate, reason="test"
            )
        except StaleError:
            assert generation != self.registry.generation()
            self.orphans |= files
            return
        assert generation == self.registry.generation()
        known = {members_of: version for version, members_of in self.routers.items()}
        expected = known.get(members, len(self.routers) + 1)
        assert found.version == expected
        self.routers[expected] = members
        self.forgotten.discard(expected)
        self.orphans -= files
        if activate:
            self.aliases["active"] = expected
        self.stale = generation

    @rule(name=st.sampled_from(["active", "stable"]), version=st.integers(1, 4))
    def alias(self, name: str, version: int) -> None:
        usable = version in self.routers and not set(self.routers[version]) & self.purged
        usable = (usable and version not in self.forgotten) or self.aliases.get(name) == version
        try:
            self.registry.set_alias(name, version, "test")
        except NotFoundError:
            assert not usable, "a usable router was refused"
            return
        assert usable
        self.aliases[name] = version

    @rule(task=TASKS)
    def remove(self, task: str) -> None:
        try:
            done = remove(self.workspace, task)
        except NotFoundError:
            assert task not in self.versions
            return
        assert done.already == (task in self.removed)
        self.removed.add(task)
        self.changes += not done.already

    @precondition(lambda self: self.versions)
    @rule(purge=st.booleans(), keep=st.none() | st.integers(1, 3))
    def gc(self, purge: bool, keep: int | None) -> None:
        done = collect(self.workspace, purge_removed=purge, keep_routers=keep, grace_hours=0)
        if keep is not None:
            kept = {*sorted(self.routers)[-keep:], *self.aliases.values(), *self.forgotten}
            assert set(done.forgotten) == self.routers.keys() - kept
            self.forgotten |= set(done.forgotten)
        if purge:
            needed = {m.split("@")[0] for v in self.aliases.values() for m in self.routers[v]}
            going = self.removed - (needed if self.members() else set())
            self.purged |= {f"{t}@{n + 1}" for t in going for n in range(len(self.versions[t]))}
        assert set(done.purged) <= self.removed
        self.orphans.clear()
        assert check(self.workspace).unreferenced == ()

    @invariant()
    def equal(self) -> None:
        if not hasattr(self, "folder"):
            return
        registry = self.registry
        found = {e.id: e.digest for e in registry.experts()}
        assert found == {
            f"{task}@{number}": digest
            for task, digests in self.versions.items()
            for number, digest in enumerate(digests, 1)
        }
        assert tuple(e.id for e in registry.members()) == self.members()
        assert registry.generation() == self.changes
        routers = registry.routers()
        assert {r.version: r.members for r in routers} == self.routers
        assert {r.version for r in routers if r.forgotten_at is not None} == self.forgotten
        for version in self.routers.keys() - self.forgotten:
            rows = registry.evaluations(router_version=version)
            assert {row.expert_id for row in rows} == set(self.routers[version])
            for row in rows:
                assert row.expert_id in self.purged or self.store.get(row.artifact_digest)
        assert {a.name: a.router_version for a in registry.aliases()} == self.aliases
        verified = check(self.workspace)
        assert verified.problems == ()
        # Nothing of a living expert is ever among what nobody refers to.
        assert set(verified.unreferenced) <= self.orphans
        for task, digests in self.versions.items():
            if task not in self.removed and not any(p.startswith(f"{task}@") for p in self.purged):
                for digest in digests:
                    assert sha256_bytes(self.store.get(digest)) == digest


SETTINGS = settings(
    max_examples=12,
    stateful_step_count=18,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestBankMachine = BankMachine.TestCase
TestBankMachine.settings = SETTINGS


def test_a_bank_in_postgresql_goes_through_the_same_states(
    postgres: PostgresServer, fresh_postgres: str
) -> None:
    with places(postgres, fresh_postgres) as place:

        class PostgresMachine(BankMachine):
            def home(self) -> tuple[Home, str | None]:
                return DatabaseHome(place(), self.folder), (self.folder / OBJECTS).as_uri()

        run_state_machine_as_test(PostgresMachine, settings=settings(SETTINGS, max_examples=6))
