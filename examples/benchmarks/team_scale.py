"""What a bank costs in PostgreSQL: copying it there and back, commands, and many writers at once.

Run it with: python examples/benchmarks/team_scale.py [--experts 10000] [--s3] [--writers 16]

Needs PostgreSQL's programs; a cluster of its own runs on this machine, with fsync. A bank of so
many experts (as in ``registry_scale.py``: random files of real size) is made in a folder, copied
to PostgreSQL and a store, and back; the digests of all three are compared. With ``--s3`` the
store is moto's server on this machine, which is slow and says little of a real S3; without, a
folder. Then processes that add, retrain, look, remove and collect use one bank at once for a
bounded time, in a folder with SQLite and in PostgreSQL, half of them with one cache folder and
half with another, as on two machines; and the bank is verified.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import registry_scale
from machine import describe

from expertbank.clock import now
from expertbank.records import BackboneRecord
from expertbank.registry.postgres.database import PostgresDatabase
from expertbank.registry.transfer import differs
from expertbank.workflows.home import DatabaseHome, FolderHome, Home
from expertbank.workflows.keeping.copying import Copied, copy_bank
from expertbank.workflows.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))
import bucket_server
import hammering
import postgres_server
from stored_files import BACKBONE


def grow(home: FolderHome, experts: int) -> None:
    """A bank with so many experts, and two routers."""
    home.prepare()
    store = home.store(None)
    with home.location.create() as registry, registry_scale.without_sync():
        record = BackboneRecord(registry_scale.BACKBONE, "tiny", {}, registry_scale.SPEC, now())
        registry.set_backbone(record)
        for number in range(experts):
            registry_scale.add(registry, store, number)
            if number in {experts // 2, experts - 1}:
                registry_scale.route(registry, store)


def copied(source: Home, target: Home, store: str | None) -> Copied:
    """Copy, and print what it took."""
    started = time.perf_counter()
    done = copy_bank(source, target, store=store)
    taken = time.perf_counter() - started
    print(
        f"| {type(source).__name__} to {type(target).__name__} | {taken:.0f} s | "
        f"{1000 * taken / done.experts:.1f} ms | {done.rows:,} rows, {done.files:,} files, "
        f"{done.bytes / 1e6:,.0f} MB |",
        flush=True,
    )
    return done


def same(one: Home, other: Home) -> bool:
    """Rows and digests of two banks."""
    ours, theirs = (Workspace.open(home, read_only=True) for home in (one, other))
    try:
        return not differs(ours.registry, theirs.registry) and list(ours.store.digests()) == list(
            theirs.store.digests()
        )
    finally:
        ours.close()
        theirs.close()


def measure(home: DatabaseHome, experts: int, runs: int) -> None:
    """Commands from start to exit, and what ``add`` commits."""
    url = home.location.address.url
    print("\n| command on the copy | seconds, median (slowest) | of processor | peak memory |")
    print("|---|---|---|---|")
    for name, words in {
        "list": ["list"],
        "show TASK": ["show", f"task{experts // 2:05}"],
        "verify": ["--quiet", "verify"],
    }.items():
        found = [registry_scale.command(url, words) for _ in range(runs)]
        times, processor, memory = zip(*found, strict=True)
        print(
            f"| {name} | {statistics.median(times):.2f} ({max(times):.2f}) "
            f"| {statistics.median(processor):.2f} | {max(memory):.0f} MB |",
            flush=True,
        )
    workspace, taken = Workspace.open(home), []
    for number in range(experts, experts + 20):
        started = time.perf_counter()
        registry_scale.add(workspace.registry, workspace.store, number)
        taken.append(time.perf_counter() - started)
    workspace.close()
    print(
        f"| an expert's commit, its 3 files included | {statistics.median(taken) * 1e3:.1f} ms "
        f"({max(taken) * 1e3:.0f}) | | |"
    )


def hammer(home: Home, store: str | None, writers: int, seconds: float) -> None:
    """So many processes at once; what they did, and whether the bank is sound."""
    home.prepare()
    with home.location.create() as registry:
        registry.set_backbone(replace(BACKBONE, store=store))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(writers), context.Queue()
    children = [
        context.Process(
            target=hammering.hammer, args=(on(home, number), number, seconds, barrier, results)
        )
        for number in range(writers)
    ]
    for child in children:
        child.start()
    turns: Counter[str] = Counter()
    told, failed = 0, []
    for _ in children:
        number, count, said, error = results.get(timeout=seconds + 300)
        role = hammering.ROLES[number % len(hammering.ROLES)]
        turns[role.__name__.replace("_", " ")] += count
        told += len(said)
        failed += [error] if error else []
    for child in children:
        child.join()
    wrong = hammering.unverified(home)
    did = ", ".join(f"{count} {role}" for role, count in turns.items())
    print(
        f"| {type(home).__name__} | {writers} for {seconds:.0f} s | {did} | {told / seconds:.1f} "
        f"| {len(failed)} | {len(wrong)} |",
        flush=True,
    )


def on(home: Home, number: int) -> Home:
    """The same bank as seen from one of two machines."""
    if isinstance(home, DatabaseHome):
        return DatabaseHome(home.location, home.cache / f"machine{number % 2}")
    return home


@contextlib.contextmanager
def bucket(wanted: bool, folder: Path) -> Iterator[str]:
    """URL of a store."""
    if not wanted:
        yield (folder / "files").as_uri()
        return
    os.environ.update(bucket_server.ENVIRONMENT)
    with bucket_server.running() as port:
        yield bucket_server.Bucket(port, "team").url("bank")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, default=10_000)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    describe(0)
    with (
        tempfile.TemporaryDirectory() as name,
        postgres_server.running(durable=True) as server,
        bucket(options.s3, Path(name)) as store,
    ):
        folder = Path(name)
        os.environ["EXPERTBANK_CACHE"] = str(folder / "cache")
        home, back = FolderHome(folder / "bank"), FolderHome(folder / "back")
        database = server.make()
        team = DatabaseHome(PostgresDatabase.at(server.url(database)), folder / "cache")
        grow(home, options.experts)
        print("| copy | time | for an expert | what |\n|---|---|---|---|")
        copied(home, team, store)
        copied(team, back, None)
        print(f"\nsame rows and digests: {same(home, team) and same(home, back)}")
        size = server.execute(database, f"SELECT pg_database_size('{database}')")[0][0]
        sqlite = home.location.path.stat().st_size
        print(f"database {int(str(size)) / 1e6:.1f} MB, in SQLite {sqlite / 1e6:.1f} MB")
        measure(team, options.experts, options.runs)
        print("\n| bank | processes | turns | told done a second | failed | problems |")
        print("|---|---|---|---|---|---|")
        hammer(FolderHome(folder / "many"), None, options.writers, options.seconds)
        many = PostgresDatabase.at(server.url(server.make()))
        files = (folder / "many-files").as_uri()
        hammer(DatabaseHome(many, folder / "cache"), files, options.writers, options.seconds)


if __name__ == "__main__":
    main()
