"""Every fault at every statement and request of a bank in PostgreSQL and S3, and what is left.

Run it with: python examples/benchmarks/postgres_faults.py [--sample N] [--each K] [--seed S]

Needs PostgreSQL's programs; a cluster of its own and an S3 (moto's server) run on this machine,
each behind a proxy. A short life of a bank, in which everything happens that writes (add, route,
alias, group, remove, gc with purge, export), is lived again and again with K faults of one kind
in it: the connection cut before, after or in the middle of a message, the session ended by
the server, the server restarted or crashed; a request of the store
dropped, delayed, cut off, answered by 500 or 503. What fails is done again, as a user would. At
the end everything that the bank knows, and every file by its digest, is compared with a life
without faults.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from machine import describe

from expertbank.registry.postgres.database import PostgresDatabase

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))
import bucket_server
import cutting
import cutting_proxy
import postgres_server

SAID = {
    "before": "connection cut before a message",
    "after": "cut after a message, before its answer",
    "half": "cut within a message",
    "reset": "reset before a message",
    "terminate": "session ended by the server",
    "restart": "server restarted",
    "crash": "server crashed and recovered",
    "drop": "store: request dropped",
    "drop-answer": "store: done, its answer dropped",
    "delay": "store: delayed",
    "truncate": "store: answer cut off",
    "500": "store: 500",
    "503": "store: 503",
    "garbage": "store: no HTTP at all",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="faults of each group; default all")
    parser.add_argument("--restarts", type=int, default=60, help="restarts and crashes")
    parser.add_argument("--each", type=int, default=8, help="faults in one life")
    parser.add_argument("--only", nargs="*", default=[], help="cut, session, server, store")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if why := postgres_server.lacking():
        print(why)
        return 1
    describe(options.seed)
    wrong: list[cutting.Judged] = []
    counts: dict[str, Counter[str]] = {}
    faults: Counter[str] = Counter()
    started = time.monotonic()
    with postgres_server.running() as server, bucket_server.running() as port:
        said = server.execute("postgres", "SHOW server_version")[0][0]
        packages = ", ".join(f"{name} {version(name)}" for name in ("psycopg", "obstore", "moto"))
        print(f"PostgreSQL {said}, {packages}\n")
        template = server.make()
        PostgresDatabase.at(server.url(template)).create().close()
        for group, kinds, sample, each in (
            ("cut", cutting_proxy.CUTS, options.sample, options.each),
            ("session", cutting.SESSION, options.sample, options.each),
            ("server", cutting.RESTARTS, options.restarts, 2),
            # A life has few requests, and what is no HTTP is not asked for again.
            ("store", bucket_server.FAULTS, options.sample, 2),
        ):
            if options.only and group not in options.only:
                continue
            s3 = group == "store"
            bucket = bucket_server.Bucket(port, f"bucket{len(counts)}") if s3 else None
            bench = cutting.Bench(server, template, bucket)
            for case in cutting.cases(bench, kinds, sample, options.seed, each):
                judged = bench.judge(case)
                faults[case.kind] += len(case.at)
                counts.setdefault(case.kind, Counter())[judged.outcome] += 1
                if judged.wrong:
                    wrong.append(judged)
                    print(f"WRONG: {judged}", file=sys.stderr, flush=True)
            measured = f"{bench.messages} messages to the database, {bench.asked} requests"
            print(f"{'s3' if s3 else 'folder'}: a life has {measured}", flush=True)
            bench.close()
    print("\n| fault | faults | lives | unnoticed | told, done again | told, was done | wrong |")
    print("|---|---|---|---|---|---|---|")
    for kind, found in counts.items():
        bad = sum(one.case.kind == kind for one in wrong)
        print(
            f"| {SAID[kind]} | {faults[kind]} | {found.total()} | {found['unnoticed']} "
            f"| {found['told']} | {found['told, was done']} | {bad} |"
        )
    minutes = (time.monotonic() - started) / 60
    print(f"\n{faults.total()} faults, {len(wrong)} lives wrong, {minutes:.1f} minutes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
