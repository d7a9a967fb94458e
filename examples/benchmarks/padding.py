"""How much of a training batch is padding, by task and tokeniser.

Run it with: python examples/benchmarks/padding.py DATA --backbones MODEL [MODEL ...]

Batches are those that training makes of the task's rows, of similar length. `full` is the share of
positions that hold a token; its inverse is how many times as fast training without padding could
be at most, where time is proportional to positions. `shuffled` is the same for batches of rows in
random order. Nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import describe
from trials import added_job

from expertbank import AdapterConfig, TrainConfig
from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.batches import shuffled_batches
from expertbank.records import EncodedRow


def full(rows: Sequence[EncodedRow], batches: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Tokens, and positions of the padded batches."""
    lengths = [[rows[place].length for place in batch] for batch in batches]
    return sum(map(sum, lengths)), sum(len(batch) * max(batch) for batch in lengths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--backbones", nargs="+", required=True)
    tasks = ("sst2", "cola", "sick", "mrpc", "qnli", "rte")
    parser.add_argument("--tasks", nargs="+", default=tasks)
    parser.add_argument("--rows", type=int, default=1500, help="training rows a task")
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    describe(options.seed)
    train = TrainConfig(limit=options.rows, seed=options.seed)
    for name in options.backbones:
        bone = load_backbone(name)
        spec = bone.default_feature_spec(max_length=options.max_length)
        print(f"{Path(name).name}\n\n| task | rows | tokens a row | full | shuffled |")
        print("|---|---|---|---|---|")
        totals = {window: [0, 0] for window in (16, 1)}
        for task in options.tasks:
            job, _ = added_job(task, options.data / task, bone, spec, AdapterConfig(), train, 1)
            shares = []
            for window, total in totals.items():
                generator = torch.Generator().manual_seed(options.seed)
                batches = [
                    batch
                    for _ in range(options.epochs)
                    for batch in shuffled_batches(
                        job.train, train.batch_size, generator, window=window
                    )
                ]
                tokens, positions = full(job.train, batches)
                total[0] += tokens
                total[1] += positions
                shares.append(tokens / positions)
            mean = sum(row.length for row in job.train) / len(job.train)
            print(
                f"| {task} | {len(job.train):,} | {mean:.1f} | {shares[0]:.3f} | {shares[1]:.3f} |"
            )
        whole = " | ".join(f"{tokens / positions:.3f}" for tokens, positions in totals.values())
        print(f"| all | | | {whole} |\n", flush=True)


if __name__ == "__main__":
    main()
