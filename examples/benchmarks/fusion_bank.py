"""The bank of ``fusion.py``: its experts and routers, the rows that all sides see, its answers."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trials import Runs

from expertbank import Bank, TrainConfig, run_job, task_spec
from expertbank.backbones.backbone import Backbone
from expertbank.data import encode_rows, load_task, take
from expertbank.kinds import KINDS
from expertbank.records import EncodedRow, Row
from expertbank.workflows.growing.jobs import AddJob

EXPERT, ROUTER, ANSWERS = "expert", "router", "bank"
"""What runs of the bank are called: of one expert, of a router over so many, of answers."""


@dataclass(frozen=True)
class Shared:
    """What all sides see under one seed.

    Attributes:
        jobs: by task what ``add`` trains, encoded.
        asked: by task the validation rows, as texts with labels.
        file: the same, encoded, for the other Python.
        digest: SHA-256 of that file.
    """

    jobs: dict[str, AddJob]
    asked: dict[str, list[Row]]
    file: Path
    digest: str


def opened(seed: int, options: argparse.Namespace) -> Bank:
    """The bank of one seed, made where it is missing."""
    bank = Bank.open(options.work / f"bank-{seed}", backbone=options.backbone)
    bank.init(max_length=options.max_length, dtype=options.dtype)
    return bank


def shared_rows(bank: Bank, seed: int, backbone: Backbone, options: argparse.Namespace) -> Shared:
    """Rows as ``add`` reads, draws, holds out and encodes them, and as many to answer."""
    train = TrainConfig(seed=seed, limit=options.rows, eval_limit=options.eval_limit)
    jobs, asked, told = {}, {}, {}
    for task in options.tasks:
        place = str(options.data / task)
        # Of a task that is in the bank already it would be a further version, with the same rows.
        job = bank.prepare(task, data=place, train=train, new_version=True)
        # The same validation rows at every seed; `add` would draw others at each.
        data = load_task(task_spec(task), place, limit=train.limit, eval_limit=10**6, seed=seed)
        rows = list(take(data.validation, options.eval_limit, 0))
        kind, length = KINDS.get(data.spec.kind), options.max_length
        found = encode_rows(rows, backbone.tokenizer, kind, data.labels, length)
        parts = {"train": job.train, "selection": job.selection, "validation": found}
        told[task] = {"labels": list(job.entry.task.labels)} | {
            part: [plain(row) for row in encoded] for part, encoded in parts.items()
        }
        jobs[task], asked[task] = job, rows
    text = json.dumps(told).encode()
    file = options.work / f"rows-{seed}.json"
    file.write_bytes(text)
    return Shared(jobs, asked, file, hashlib.sha256(text).hexdigest())


def plain(row: EncodedRow) -> list[Any]:
    """Tokens, their types and the class of a row of one sequence."""
    (ids,), (types,) = row.sequences, row.type_ids
    return [ids, types, row.target]


def grow(bank: Bank, shared: Shared, seed: int, runs: Runs, options: argparse.Namespace) -> None:
    """Add the tasks in their order by the product's own path, the router fitted after each."""
    for count, (task, job) in enumerate(shared.jobs.items(), start=1):
        if task not in {expert.task for expert in bank.experts()}:
            done = run_job(job)
            facts = {
                "side": "default",
                "seconds": done.facts["seconds"],
                "best_epoch": done.facts["best_epoch"],
                "selection": done.facts["selection_score"],
                "train_rows": len(job.train),
                "rows": shared.digest,
            }
            added = bank.commit(done)
            counts = {n: getattr(added.expert, n) for n in ("adapter_params", "head_params")}
            runs.add((task, seed, EXPERT), facts | counts)
            print(f"seed {seed}, expert of {task}: {facts['seconds']:.0f} s", flush=True)
        tried = f"{ROUTER} over {count}"
        if count > 1 and (options.tasks[count - 1], seed, tried) not in runs.by_key:
            found = bank.retrain_router()
            facts = {"params": found.router.params, "seconds": round(found.seconds, 2)}
            facts |= {"tasks": list(found.tasks), "sent": found.metrics["per_task"]}
            runs.add((task, seed, tried), facts)


def answer(bank: Bank, shared: Shared, seed: int, runs: Runs) -> None:
    """Let the bank answer the validation rows, with the router choosing and with the task named."""
    if all((task, seed, ANSWERS) in runs.by_key for task in shared.asked):
        return
    for task, rows in shared.asked.items():
        began = time.monotonic()
        routed = [(one.task, one.label) for one in bank.predict(rows)]
        named = [one.label for one in bank.predict(rows, task=task)]
        facts = {
            "right": bits_of(
                [(task, row.label) == one for row, one in zip(rows, routed, strict=True)]
            ),
            "named": bits_of([row.label == one for row, one in zip(rows, named, strict=True)]),
            "sent": bits_of([chosen == task for chosen, _ in routed]),
            "answering": round(time.monotonic() - began, 1),
            "rows": shared.digest,
        }
        runs.add((task, seed, ANSWERS), facts)
        print(f"seed {seed}, bank on {task}: {facts['answering']:.0f} s", flush=True)


def bits_of(right: Sequence[bool]) -> str:
    """A text of ones and zeros."""
    return "".join(str(int(one)) for one in right)
