"""A real decoder as backbone: experts beside LoRA r=16, and which states route best in it.

Run it with: python examples/benchmarks/decoder.py DATA --backbone MODEL.gguf --out FOLDER

Needs peft, and package gguf for a GGUF file. Per task both sides see the same training rows in
the same batches with the same head, head start, optimiser and number of epochs; see
accuracy_against_lora.py. The rate of each side is chosen at the first task, on held-out training
rows, and kept for the others. LoRA acts on query and value of all layers, TT-LoRA has the
product's defaults.

Routing: every task's rows are pooled in three ways at some states of the bare model; of each
choice the default gate is fitted on four fifths of the training rows. `held-out` is the other
fifth, on which a choice may be made; validation rows are only reported. Rows go to any task,
whatever their shape: masks are left out, so that it is the states that are compared.

What is finished is kept in --out and not repeated; an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accuracy_against_lora import Runs, report, run_one
from machine import describe
from routing_features import RealTask

from expertbank import TrainConfig, task_spec
from expertbank.adapters.pool import CollapsedExpert, ExpertPool
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.config import FeatureSpec
from expertbank.data import encode_rows, load_task
from expertbank.models.routed import RoutedModel
from expertbank.routing.config import RouterConfig
from expertbank.routing.feature_file import FeatureFile, Spans
from expertbank.routing.fit import fit_router
from expertbank.workflows.measure import trunk_features

POOLINGS = ("mean", "first", "last")
SIDES = ("TT-LoRA", "LoRA")
RATES = {"TT-LoRA": (2e-3, 5e-3), "LoRA": (3e-4, 1e-3)}


def states_of(depth: int, default: Sequence[int]) -> tuple[int, ...]:
    """Inputs of some layers from the lowest to the highest, and the product's default ones."""
    spread = {round(depth * share) for share in (0, 1 / 15, 1 / 6, 1 / 3, 1 / 2, 2 / 3)}
    return tuple(sorted({*spread, *default, depth - 1}))


def experts(options: argparse.Namespace, bone: Backbone) -> None:
    """Train both sides on every task, and print the table."""
    names = ("rows", "eval_limit", "epochs", "max_length", "dtype")
    settings = {name: getattr(options, name) for name in names} | {"backbone": bone.digest}
    settings["tuned_on"] = options.tasks[0]
    runs = Runs(options.out / "runs.jsonl", settings)
    seed = options.seed
    for task in options.tasks:
        for side in SIDES:
            if (task, side, seed) in runs.by_key:
                continue
            first = task == options.tasks[0]
            rates = RATES[side] if first else (runs.by_key[options.tasks[0], side, seed]["rate"],)
            train = TrainConfig(
                epochs=options.epochs,
                patience=options.epochs,
                limit=options.rows,
                eval_limit=options.eval_limit,
                seed=seed,
            )
            run = run_one(task, side, train, rates, options.data, bone, options.max_length)
            runs.add(run)
            print(
                f"{task}, {side}: {np.mean(run['right']):.4f} at {run['rate']:g}, "
                f"{run['seconds']:.0f} s",
                flush=True,
            )
    report(runs, options.tasks, "LoRA", (seed,), seed)


def pooled(options: argparse.Namespace, bone: Backbone, states: Sequence[int]) -> list[RealTask]:
    """Features of every task, made once."""
    spec = FeatureSpec(bone.digest, max(states), tuple(states), POOLINGS, options.max_length)

    def no_experts(expert_id: str) -> CollapsedExpert:
        raise AssertionError(f"routing features need no expert, asked for {expert_id}")

    model = RoutedModel(bone, spec, ExpertPool(no_experts))
    found = []
    for name in options.route_tasks:
        place = options.out / f"{name}-{options.route_rows}-{options.seed}-{spec.digest[:12]}.safe"
        if not place.is_file():
            data = load_task(
                task_spec(name),
                str(options.data / name),
                limit=options.route_rows,
                eval_limit=options.route_rows,
                seed=options.seed,
            )
            parts, shapes = [], []
            for rows in (data.train, data.validation):
                encoded = encode_rows(rows, bone.tokenizer, None, (), options.max_length)
                parts.append(trunk_features(model, encoded))
                shapes.append(tuple(row.shape for row in rows))
            place.write_bytes(FeatureFile(*parts, *shapes, spec.digest).to_bytes())
            print(f"{name}: features of {sum(map(len, parts)):,} rows", flush=True)
        file = FeatureFile.from_bytes(place.read_bytes(), name)
        # One shape for all: a mask would hide what the states can tell apart.
        single = tuple(file.train_shapes[:1]) * len(file.train)
        other = tuple(file.train_shapes[:1]) * len(file.evaluation)
        spans = Spans.none(file.width)
        found.append(
            RealTask(
                name,
                task_spec(name).kind,
                *(file.train, file.evaluation, single, other),
                torch.zeros(len(file.train), dtype=torch.int32),
                spans,
            )
        )
    return found


def routing(options: argparse.Namespace, bone: Backbone) -> None:
    """Which state and pooling tell the tasks apart: one table."""
    default = bone.default_feature_spec(max_length=options.max_length)
    states = states_of(len(bone.layers), default.states)
    tasks = pooled(options, bone, states)
    choices = [((s,), p) for s in states for p in (("mean",), ("first",), ("last",))]
    choices += [((s,), ("mean", "last")) for s in states]
    choices.append((default.states, default.poolings))
    print(f"\n{len(tasks)} tasks, {options.route_rows} rows each of training and validation")
    print("\n| states | poolings | held-out | validation |")
    print("|---|---|---|---|")
    width = bone.hidden_size
    for chosen, poolings in choices:
        places = [
            states.index(state) * len(POOLINGS) + POOLINGS.index(pooling)
            for state in chosen
            for pooling in poolings
        ]
        columns = torch.cat([torch.arange(one * width, (one + 1) * width) for one in places])
        held, reported = _accuracies(tasks, columns, options.seed)
        mark = " (default)" if (chosen, poolings) == (default.states, default.poolings) else ""
        print(
            f"| {', '.join(map(str, chosen))}{mark} | {', '.join(poolings)} "
            f"| {held:.4f} | {reported:.4f} |",
            flush=True,
        )


def _accuracies(tasks: Sequence[RealTask], columns: torch.Tensor, seed: int) -> tuple[float, float]:
    """Means over tasks of the share of rows sent to their own one: held-out, and validation."""
    cut = [
        replace(
            task,
            train=task.train[:, columns],
            evaluation=task.evaluation[:, columns],
            spans=Spans.none(len(columns)),
        )
        for task in tasks
    ]
    fitted = [replace(task.fitted_on(tuning=True), kind="classification") for task in cut]
    router = fit_router(fitted, RouterConfig.of_text("lda", seed=seed), "0" * 64)
    shares: list[list[float]] = [[], []]
    for task in cut:
        for place, tuning in enumerate((True, False)):
            index = router.route(*task.tested_on(tuning=tuning)).index
            shares[place].append(float((index == router.column_of(task.name)).double().mean()))
    return tuple(sum(one) / len(one) for one in shares)  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--backbone", required=True, help="a GGUF file, a folder or a Hub name")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is finished")
    parser.add_argument("--tasks", nargs="+", default=("sst2", "cola", "sick", "mrpc"))
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--eval-limit", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--dtype", default="bfloat16", help="float32 or bfloat16, for all")
    parser.add_argument(
        "--route-tasks", nargs="+", default=("sst2", "cola", "sick", "mrpc", "qnli", "rte")
    )
    parser.add_argument("--route-rows", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    describe(options.seed)
    bone = load_backbone(options.backbone, dtype=options.dtype)
    print(json.dumps({"backbone": bone.digest, "layers": len(bone.layers), "dtype": bone.dtype}))
    routing(options, bone)
    experts(options, bone)


if __name__ == "__main__":
    main()
