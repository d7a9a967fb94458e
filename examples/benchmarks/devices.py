"""A bank's whole job on a device: the same bytes twice, the proof, and the CPU's answers.

Run it with: python examples/benchmarks/devices.py DATA --device cuda [--backbone B] [--dtype D]

On ``--device`` two banks are made of the same tasks, a router each and a report that asks every
evaluation row again; a third is made on the CPU. Then the first bank's bundle answers validation
rows in three ways: on the device in batches, on the device row by row, and on the CPU in batches.
Nothing else than the device differs. Of two ways it says how many rows got the same task and the
same label, and how far a label's probability moved at most. Seconds are those of one run.

Before that the last task is trained over and over on the device, in turn with kernels that give the
same bits, as the product trains, and with those that torch takes by itself: how many different
files come of it, and the median of the seconds. Long rows tell more: ``--tasks boolq
--max-length 512``.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import describe, finish
from trials import added_job, table_row

from expertbank import AdapterConfig, Bank, Row, TrainConfig, load_bundle, task_spec
from expertbank.backbones.backbone import load_backbone
from expertbank.config import DEFAULT_BACKBONE
from expertbank.data import load_task
from expertbank.training import reproducible
from expertbank.training.expert import train_expert
from expertbank.workflows.answering.prediction import Prediction


@dataclass(frozen=True)
class Made:
    """What one bank came to.

    Attributes:
        digests: SHA-256 of every expert and of the router.
        right: accuracy of every task, named.
        asked: rows that the report asked again.
        apart: how far their logits moved at most.
        seconds: to add the tasks.
        tokens_per_second: of training, over all tasks.
        peak: MiB that torch had allocated on the device at most; 0 on the CPU.
    """

    digests: dict[str, str]
    right: dict[str, float]
    asked: int
    apart: float
    seconds: float
    tokens_per_second: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "rte"])
    parser.add_argument("--rows", type=int, default=400, help="training rows a task")
    parser.add_argument("--eval-limit", type=int, default=100, help="validation rows a task")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=4, help="trainings with either kernels")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    describe(options.seed)
    kernels(options)
    with tempfile.TemporaryDirectory() as folder:
        homes = {
            f"{options.device}, once": options.device,
            f"{options.device}, again": options.device,
            "cpu": "cpu",
        }
        made = {}
        for place, (name, device) in enumerate(homes.items()):
            made[name] = bank_of(options, Path(folder) / str(place), device)
            told(name, made[name])
        once, again, _ = made.values()
        same = [name for name, digest in once.digests.items() if again.digests[name] == digest]
        print(f"\nthe same bytes twice: {len(same)} of {len(once.digests)} files")
        answered(options, Path(folder) / "0" / "bundle")


def kernels(options: argparse.Namespace) -> None:
    """Train one task again and again with either kernels, and tell the files apart."""
    backbone = load_backbone(options.backbone, dtype=options.dtype, device=options.device)
    spec = backbone.default_feature_spec(max_length=options.max_length, dtype=options.dtype)
    task = options.tasks[-1]
    train = TrainConfig(epochs=1, limit=options.rows, seed=options.seed)
    where = task, options.data / task, backbone, spec, AdapterConfig()
    job, _ = added_job(*where, train, options.eval_limit)
    ways = {"as the product trains": reproducible.HASTY, "as torch chooses": set()}
    files: dict[str, list[str]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds + 1):
        for name, reproducible.HASTY in ways.items():
            begun = time.monotonic()
            made = train_expert(job, backbone).file.to_bytes()
            finish()
            if turn:  # the first one warms up
                seconds[name].append(time.monotonic() - begun)
                files[name].append(hashlib.sha256(made).hexdigest())
    reproducible.HASTY = ways["as the product trains"]
    longest = max(row.length for row in job.train)
    print(f"{task}, {len(job.train)} rows of at most {longest} tokens, {options.dtype}\n")
    table_row("kernels", ["trainings", "different files", "seconds"])
    print("|---" * 4 + "|")
    for name, own in files.items():
        table_row(name, [len(own), len(set(own)), f"{statistics.median(seconds[name]):.2f}"])
    print(flush=True)


def bank_of(options: argparse.Namespace, folder: Path, device: str) -> Made:
    """A bank with every task, a router, a report and a bundle."""
    train = TrainConfig(
        limit=options.rows, eval_limit=options.eval_limit, epochs=options.epochs, seed=options.seed
    )
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    with Bank.open(folder / "bank", create=True, device=device) as bank:
        bank.init(backbone=options.backbone, max_length=options.max_length, dtype=options.dtype)
        begun = time.monotonic()
        added = [bank.add(task, data=options.data / task, train=train) for task in options.tasks]
        finish()
        seconds = time.monotonic() - begun
        peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else 0.0
        router = bank.retrain_router().router
        found = bank.forgetting_report(verify=True).verification or {}
        bank.export(folder / "bundle")
    trained = sum(one.train["seconds"] for one in added)
    tokens = sum(one.train["seconds"] * one.train["tokens_per_second"] for one in added)
    return Made(
        {**{one.expert.id: one.expert.digest for one in added}, "router": router.digest},
        {one.expert.task: one.metrics["accuracy"] for one in added},
        sum(one["rows"] for one in found.values()),
        max(one["max_logit_difference"] for one in found.values()),
        seconds,
        tokens / trained,
        peak,
    )


def told(name: str, made: Made) -> None:
    """One line of what a bank came to."""
    right = ", ".join(f"{task} {share:.3f}" for task, share in made.right.items())
    print(
        f"{name}: {right}; {made.asked} rows asked again, logits {made.apart:.2g} apart; "
        f"{made.seconds:.1f} s, {made.tokens_per_second:,.0f} tokens a second, "
        f"{made.peak:,.0f} MiB",
        flush=True,
    )


def answered(options: argparse.Namespace, bundle: Path) -> None:
    """The bundle's answers in three ways, and how far they are apart."""
    rows: list[Row] = []
    for task in options.tasks:
        data = load_task(
            task_spec(task),
            str(options.data / task),
            limit=8,
            eval_limit=options.eval_limit,
            seed=options.seed,
        )
        rows.extend(data.validation)
    there = load_bundle(bundle, backbone=options.backbone, device=options.device)
    here = load_bundle(bundle, backbone=options.backbone, device="cpu")
    batches = list(there.predict(rows))
    others = {
        f"{options.device}, row by row": [next(iter(there.predict([row]))) for row in rows],
        "cpu, batches": list(here.predict(rows)),
    }
    print()
    table_row(f"{options.device}, batches, beside", ["rows", "same task", "same label", "moved"])
    print("|---" * 5 + "|")
    for name, own in others.items():
        table_row(name, compared(batches, own))


def compared(ones: Sequence[Prediction], others: Sequence[Prediction]) -> list[str]:
    """Rows, those of the same task, of the same label, and the farthest move of a probability."""
    pairs = list(zip(ones, others, strict=True))
    alike = [(one, other) for one, other in pairs if one.task == other.task]
    labels = sum(one.label == other.label for one, other in alike)
    moved = max(
        abs(one.scores[label] - other.scores[label]) for one, other in alike for label in one.scores
    )
    return [str(len(pairs)), str(len(alike)), str(labels), f"{moved:.2g}"]


if __name__ == "__main__":
    main()
