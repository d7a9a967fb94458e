"""Accuracy of TT-LoRA experts beside LoRA r=16, same rows and rates' budget, paired intervals.

Run it with: python examples/benchmarks/accuracy_against_lora.py ../shared/data --out runs.jsonl

Needs peft. Per task and seed both sides see the same training rows in the same batches with the
same head, head start, optimiser and number of epochs; the epoch is chosen on the same held-out
training rows. Each side tries three learning rates at the first seed, chooses one on those
held-out rows, and keeps it for the other seeds (with --tune-every-seed each seed chooses).
Validation rows choose nothing. LoRA acts on query and value of all layers, its usual form;
--branch-only adds a third side, LoRA on the layers that experts may adapt. TT-LoRA has the
product's defaults.

Every finished run is one line of --out; runs found there with the same settings are not repeated,
so an interrupted benchmark goes on. Intervals: 95% of the pigeonhole bootstrap (Owen, Annals of
Applied Statistics 2007), which draws rows and seeds independently with replacement and keeps
both sides' answers of a row and seed together; it is conservative. Aimed at: at most 7% of LoRA's
parameters, mean difference not below -0.5 points.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lora_baseline import LoraSettings, expert_answers, job_of, right_answers, train_lora
from machine import describe

from expertbank import TrainConfig
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.config import DEFAULT_BACKBONE
from expertbank.training.expert import train_expert

TASKS = ("sst2", "mrpc", "qnli", "sick")
RATES = {"TT-LoRA": (2e-3, 5e-3, 1e-2), "LoRA": (3e-4, 1e-3, 3e-3)}
RATES["LoRA branch"] = RATES["LoRA"]
DRAWS = 4000


class Runs:
    """The finished runs of one file, by task, side and seed."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self._path, self._settings = path, settings
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        # A run that was interrupted while it wrote leaves half a line, which is no run.
        found = [json.loads(line) for line in lines if line.endswith("}}")]
        self.by_key = {
            (run["task"], run["side"], run["seed"]): run
            for run in found
            if run["settings"] == settings
        }

    def add(self, run: dict[str, Any]) -> None:
        """Keep one more run, in the file too."""
        self.by_key[run["task"], run["side"], run["seed"]] = run
        before = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        with self._path.open("a", encoding="utf-8") as file:
            if before and not before.endswith("\n"):
                file.write("\n")
            file.write(json.dumps({**run, "settings": self._settings}) + "\n")


def run_one(
    task: str, side: str, train: TrainConfig, rates: Sequence[float], place: Path, bone: Backbone,
    max_length: int,
) -> dict[str, Any]:  # fmt: skip
    """Train ``side`` at every rate, choose on held-out training rows, answer the validation."""
    started = time.monotonic()
    dtype = str(next(bone.model.parameters()).dtype).removeprefix("torch.")
    spec = bone.default_feature_spec(max_length=max_length, dtype=dtype)
    tried: dict[str, float] = {}
    best: tuple[float, dict[str, Any]] | None = None
    for rate in rates:
        job, rows = job_of(task, place, bone, spec, replace(train, lr=rate))
        if side == "TT-LoRA":
            expert = train_expert(job, bone)
            score, params = expert.selection_score, expert.adapter_params
        else:
            first = spec.route_layer if side == "LoRA branch" else 0
            lora = train_lora(job, bone, LoraSettings(rate, first_layer=first))
            score, params = lora.selection_score, lora.adapter_params
        tried[f"{rate:g}"] = score
        # Of equal scores the lower rate, on either side: rates are tried in rising order.
        if best is None or score > best[0]:
            right = (
                expert_answers(expert.file, bone, rows)
                if side == "TT-LoRA"
                else right_answers(lora.backbone, lora.head_weight, lora.head_bias, rows)
            )
            best = score, {"rate": rate, "params": params, "right": right}
    assert best is not None
    targets = [int(row.target or 0) for row in rows]
    return {
        "task": task,
        "side": side,
        "seed": train.seed,
        "tried": tried,
        **best[1],
        "head_params": (len(job.labels)) * (bone.hidden_size + 1),
        "train_rows": len(job.train),
        "majority": max(targets.count(label) for label in set(targets)) / len(targets),
        "seconds": time.monotonic() - started,
    }


def pigeonhole(differences: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Bootstrap means of ``differences [seeds, rows]``, both axes drawn independently."""
    seeds, rows = differences.shape
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), DRAWS) / seeds
    by_row = generator.multinomial(rows, np.full(rows, 1 / rows), DRAWS) / rows
    return np.einsum("bs,sr,br->b", by_seed, differences, by_row, optimize=True)


def paired(runs: Runs, task: str, side: str, seeds: Sequence[int]) -> np.ndarray:
    """TT-LoRA right minus ``side`` right, ``[seeds, rows]``."""
    ours = np.array([runs.by_key[task, "TT-LoRA", seed]["right"] for seed in seeds])
    theirs = np.array([runs.by_key[task, side, seed]["right"] for seed in seeds])
    return (ours - theirs).astype(float)


def report(runs: Runs, tasks: Sequence[str], side: str, seeds: Sequence[int], seed: int) -> None:
    """Print one table: TT-LoRA against ``side``."""
    generator = np.random.default_rng(seed)
    print(f"\n| task | rows | TT-LoRA | {side} | points | 95% | majority | rates |")
    print("|---|---|---|---|---|---|---|---|")
    every = []
    for task in tasks:
        both = [[runs.by_key[task, name, number] for number in seeds] for name in ("TT-LoRA", side)]
        means = [np.mean([np.mean(run["right"]) for run in own]) for own in both]
        difference = paired(runs, task, side, seeds)
        draws = pigeonhole(difference, generator)
        every.append((difference.mean(), draws))
        rates = [", ".join(f"{run['rate']:g}" for run in own) for own in both]
        print(
            f"| {task} | {both[0][0]['train_rows']:,} | {means[0]:.4f} | {means[1]:.4f} "
            f"| {100 * difference.mean():+.2f} | {_interval(draws)} "
            f"| {both[0][0]['majority']:.3f} | {rates[0]} / {rates[1]} |"
        )
    mean = 100 * float(np.mean([centre for centre, _ in every]))
    print(f"| mean | | | | {mean:+.2f} | {_interval(np.mean([d for _, d in every], 0))} | | |")
    ours, theirs = (runs.by_key[tasks[0], name, seeds[0]]["params"] for name in ("TT-LoRA", side))
    head = runs.by_key[tasks[0], side, seeds[0]]["head_params"]
    print(
        f"\nadapter parameters: TT-LoRA {ours:,}, {side} {theirs:,}: {ours / theirs:.1%}; "
        f"each beside a head ({head:,} for {tasks[0]})"
    )
    for name in ("TT-LoRA", side):
        minutes = sum(runs.by_key[t, name, s]["seconds"] for t in tasks for s in seeds) / 60
        print(f"{name}: {minutes:.1f} minutes over {len(tasks) * len(seeds)} runs")


def _interval(draws: np.ndarray) -> str:
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{100 * low:+.2f} to {100 * high:+.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines of finished runs")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--eval-limit", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16, for both sides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--branch-only", action="store_true")
    parser.add_argument("--tune-every-seed", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    describe(options.seed)
    names = ("rows", "eval_limit", "epochs", "max_length", "dtype", "backbone", "tune_every_seed")
    settings = {name: getattr(options, name) for name in names}
    settings["tuned_at"] = None if options.tune_every_seed else options.seeds[0]
    print(json.dumps(settings))
    runs = Runs(options.out, settings)
    bone = load_backbone(options.backbone, dtype=options.dtype)
    sides = ["TT-LoRA", "LoRA", *(["LoRA branch"] if options.branch_only else [])]
    for task in options.tasks:
        for seed in options.seeds:
            for side in sides:
                if (task, side, seed) in runs.by_key:
                    continue
                rates: Sequence[float] = RATES[side]
                if seed != options.seeds[0] and not options.tune_every_seed:
                    rates = (runs.by_key[task, side, options.seeds[0]]["rate"],)
                train = TrainConfig(
                    epochs=options.epochs,
                    patience=options.epochs,
                    limit=options.rows,
                    eval_limit=options.eval_limit,
                    seed=seed,
                )
                place, length = options.data, options.max_length
                run = run_one(task, side, train, rates, place, bone, length)
                runs.add(run)
                print(
                    f"{task}, seed {seed}, {side}: {np.mean(run['right']):.4f} at {run['rate']:g}, "
                    f"{run['seconds']:.0f} s",
                    flush=True,
                )
    for side in sides[1:]:
        report(runs, options.tasks, side, options.seeds, options.seed)


if __name__ == "__main__":
    main()
