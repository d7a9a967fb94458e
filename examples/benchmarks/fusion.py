"""The paper's mixed tasks: a routed bank beside AdapterFusion, with the task not told.

Run it with:
    python examples/benchmarks/fusion.py ../shared/data --work FOLDER --dtype bfloat16

Sides, all on the same rows with the same tokens, which ``fusion_bank.py`` writes to a file:

- the bank: experts by the product's own path and defaults, the router refitted after each task;
  answers with the router choosing, and with the task named.
- Pfeiffer adapters (reduction 16, full depth), one a task, with the task named; the product's
  epochs, patience, batches, schedule and start of the head. One rate for all tasks, of four.
- AdapterFusion over them, fairly: one head over all classes of all tasks, trained on the rows of
  all tasks. An answer is right if class and task are. Beside it the same model with the head cut to
  the row's own task, which is what it would answer if the task were told.
- AdapterFusion over them as the paper's authors published it: one epoch at 5e-5, a head that all
  tasks share. Its answers have no task, so they are judged by the class alone, which flatters it.

Rates are chosen at the first seed on the held-out training rows; validation rows choose nothing and
are answered once. Adapters and fusions are trained in an environment of their own in ``--work``,
made where it is missing, by ``others/adapter_fusion.py``. With bfloat16 the bank's backbone is in
it, and adapters run in autocast, weights in float32.

With ``--pair-seeds`` adapters and fusion are trained with the product's heads of pairs there, too,
at the rates that were chosen. With ``--patient-seeds`` the fusion is trained without patience, too;
beside it then stands the one of the two that held out better, seed by seed.

Every finished run is one line of ``--out`` and is not repeated; banks and adapters in ``--work``
are gone on with, so keep or delete both together. The tables are printed after each seed, each side
on the seeds that it has, each pair on those that both have. The last one is the share of each
task's validation rows (those that ``add`` keeps features of) that are sent to it by the router over
the first tasks only. Intervals are those of ``intervals.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fusion_adapters import (
    ALL,
    Adapters,
    Run,
    adapter,
    best,
    fusion,
    key_of,
    named,
    paired,
    published,
)
from fusion_bank import ANSWERS, EXPERT, ROUTER, answer, grow, opened, shared_rows
from intervals import bits, interval, share
from machine import describe
from paper import TASKS
from trials import Runs, command_line, table_row

from expertbank.backbones.backbone import Backbone, load_backbone

OURS = "bank, routed"
FAIR = "AdapterFusion, task not told"
PAIRED = "AdapterFusion with our heads, task not told"
PATIENT = "AdapterFusion, of two patiences"
Answers = dict[str, dict[str, dict[int, str]]]
"""By side, task and seed the answers, a text of ones and zeros."""


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    describe(options.seeds[0])
    names = ("rows", "eval_limit", "max_length", "dtype", "backbone", "tasks")
    conditions = {name: getattr(options, name) for name in names}
    print(json.dumps(conditions), flush=True)
    runs = Runs(options.out, conditions)
    if options.tables:
        report(runs, options)
        return
    options.work.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    options.folder = backbone.place.path
    for seed in options.seeds:
        one_seed(seed, runs, backbone, options)
        report(runs, options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, "fusion", TASKS)
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--eval-limit", type=int, default=1000, help="validation rows a task")
    parser.add_argument("--adapter-rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3, 1e-2])
    parser.add_argument("--fusion-rates", type=float, nargs="+", default=[1e-4, 1e-3, 3e-3])
    parser.add_argument("--grid-tasks", nargs="+", help="that choose adapters' rate; default all")
    parser.add_argument("--published-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fusion-epochs", type=int, default=6)
    parser.add_argument("--fusion-patience", type=int, default=2)
    parser.add_argument("--patient-seeds", type=int, nargs="+", default=[])
    parser.add_argument("--pair-seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", action="store_true", help="print what is there, train nothing")
    parser.add_argument("--only-bank", action="store_true", help="leave the other sides out")
    return parser.parse_args()


def one_seed(seed: int, runs: Runs, backbone: Backbone, options: argparse.Namespace) -> None:
    """All sides under one seed; at the first one rates are chosen."""
    with opened(seed, options) as bank:
        shared = shared_rows(bank, seed, backbone, options)
        grow(bank, shared, seed, runs, options)
        answer(bank, shared, seed, runs)
    if options.only_bank:
        return
    other = Adapters(seed, shared, runs, backbone, options)
    first = seed == options.seeds[0]
    if first:
        other.do([run for _, own in adapter_grid(options) for run in own])
    rate = best(runs, options.seeds[0], adapter_grid(options))
    other.do([adapter(task, rate, answer=True) for task in options.tasks])
    if first:
        other.do([run for _, own in fusion_grid(rate, options) for run in own])
    chosen = best(runs, options.seeds[0], fusion_grid(rate, options))
    other.do([fusion(options, rate, chosen, answer=True)])
    if seed in options.patient_seeds:
        other.do([patient(fusion(options, rate, chosen, answer=True))])
    if seed in options.pair_seeds:
        other.do([paired(adapter(task, rate, answer=True)) for task in options.tasks])
        other.do([paired(fusion(options, rate, chosen, answer=True))])
    if seed in options.published_seeds:
        other.do([published(rate)])


def adapter_grid(options: argparse.Namespace) -> list[tuple[float, list[Run]]]:
    """Rates of adapters, each with its runs."""
    rates, tasks = options.adapter_rates, options.grid_tasks or options.tasks
    return [(rate, [adapter(task, rate, answer=False) for task in tasks]) for rate in rates]


def fusion_grid(adapter_rate: float, options: argparse.Namespace) -> list[tuple[float, list[Run]]]:
    """Rates of fusions, each with its run."""
    rates = options.fusion_rates
    return [(rate, [fusion(options, adapter_rate, rate, answer=False)]) for rate in rates]


def patient(run: Run) -> Run:
    """The same fusion, trained for all its epochs."""
    return {**run, "patience": run["epochs"]}


def report(runs: Runs, options: argparse.Namespace) -> None:
    """The tables, each side on the seeds that it has, each pair on those that both have."""
    tasks = options.tasks

    def seeds_of(wanted: Sequence[tuple[str, str]]) -> list[int]:
        return [s for s in options.seeds if all((t, s, n) in runs.by_key for t, n in wanted)]

    def each(tried: Sequence[str], what: str) -> dict[str, dict[int, str]]:
        seeds = seeds_of(list(zip(tasks, tried, strict=True)))
        return {
            task: {seed: runs.by_key[task, seed, name][what] for seed in seeds}
            for task, name in zip(tasks, tried, strict=True)
        }

    def together(run: Run, what: str) -> dict[str, dict[int, str]]:
        found = {s: runs.by_key[key_of(run, s)][what] for s in seeds_of([(ALL, named(run))])}
        return {task: {seed: one[task] for seed, one in found.items()} for task in tasks}

    def held_out_better(run: Run) -> dict[str, dict[int, str]]:
        found: dict[str, dict[int, str]] = {task: {} for task in tasks}
        for seed in seeds_of([(ALL, named(run))]):
            keys = [key_of(run, seed), key_of(patient(run), seed)]
            both = [runs.by_key[key] for key in keys if key in runs.by_key]
            better = max(both, key=lambda one: one["selection"])
            for task in tasks:
                found[task][seed] = better["right"][task]
        return found

    own = [ANSWERS] * len(tasks)
    answers: Answers = {OURS: each(own, "right"), "bank, task named": each(own, "named")}
    sent: Answers = {OURS: each(own, "sent")}
    seeds = list(answers[OURS][tasks[0]])
    sizes = dict.fromkeys(answers, bank_size(runs, seeds, options))
    if not options.only_bank:
        rate = best(runs, options.seeds[0], adapter_grid(options))
        chosen = best(runs, options.seeds[0], fusion_grid(rate, options))
        print(f"\nrates: adapters {rate:g}, fusion {chosen:g}")
        fair, paper = fusion(options, rate, chosen, answer=True), published(rate)
        alone = [adapter(task, rate, answer=True) for task in tasks]
        answers |= {
            "Pfeiffer adapters, task named": each([named(run) for run in alone], "right"),
            FAIR: together(fair, "right"),
            "AdapterFusion, task told": together(fair, "named"),
            PAIRED: together(paired(fair), "right"),
            "AdapterFusion as published, class alone": together(paper, "right"),
        }
        sent[FAIR] = together(fair, "sent")
        under = [alone, [*alone, fair], [*alone, fair]]
        under += [[paired(run) for run in (*alone, fair)], [*alone, paper]]
        for side, wanted in zip(list(answers)[2:], under, strict=True):
            sizes[side] = size(runs, list(answers[side][tasks[0]]), wanted)
        if seeds_of([(ALL, named(patient(fair)))]):
            answers[PATIENT] = held_out_better(fair)
    shares(answers, sizes, tasks)
    gaps(answers, tasks)
    print("\nShare of rows that are answered for their own task:\n")
    shares(sent, {}, tasks)
    by_number(runs, seeds, tasks)


def bank_size(runs: Runs, seeds: Sequence[int], options: argparse.Namespace) -> tuple[int, float]:
    """Numbers of experts, heads and router, and mean minutes of training them."""
    tasks, last = options.tasks, options.tasks[-1]
    experts = [[runs.by_key[task, seed, EXPERT] for task in tasks] for seed in seeds]
    routers = [runs.by_key[last, seed, f"{ROUTER} over {len(tasks)}"] for seed in seeds]
    numbers = sum(run["adapter_params"] + run["head_params"] for run in experts[0])
    seconds = [sum(run["seconds"] for run in own) for own in experts]
    seconds = [one + router["seconds"] for one, router in zip(seconds, routers, strict=True)]
    return numbers + routers[0]["params"], _mean(seconds) / 60


def size(runs: Runs, seeds: Sequence[int], wanted: Sequence[Run]) -> tuple[int, float]:
    """Numbers that were trained, heads included, and mean minutes."""
    found = [[runs.by_key[key_of(run, seed)] for run in wanted] for seed in seeds]
    numbers = sum(run["params"] + run["head_params"] for run in found[0]) if found else 0
    return numbers, _mean([sum(run["seconds"] for run in own) for own in found]) / 60


def shares(answers: Answers, sizes: dict[str, tuple[int, float]], tasks: Sequence[str]) -> None:
    """The table of right answers by task, and what each side takes."""
    table_row("side", ["numbers", *tasks, "mean", "seeds", "minutes a seed"])
    print("|---" * (len(tasks) + 5) + "|")
    for side, own in answers.items():
        if not own[tasks[0]]:
            continue
        means = [statistics.mean(map(share, own[task].values())) for task in tasks]
        figures = [f"{mean:.4f}" for mean in (*means, statistics.mean(means))]
        counted, taken = "", ""
        if side in sizes:
            counted, taken = f"{sizes[side][0]:,}", f"{sizes[side][1]:.1f}"
        table_row(side, [counted, *figures, len(own[tasks[0]]), taken])


def gaps(answers: Answers, tasks: Sequence[str]) -> None:
    """The routed bank's distance from every other side, in points."""
    print()
    table_row(f"{OURS}, against", [*tasks, "points", "95%", "seeds"])
    print("|---" * (len(tasks) + 4) + "|")
    for side, own in answers.items():
        seeds = [seed for seed in own[tasks[0]] if seed in answers[OURS][tasks[0]]]
        if side == OURS or not seeds:
            continue

        def of(name: str, task: str, seeds: Sequence[int] = tuple(seeds)) -> np.ndarray:
            return bits([answers[name][task][seed] for seed in seeds])

        apart = [100 * (of(OURS, task) - of(side, task)) for task in tasks]
        low, high = interval(apart, np.random.default_rng(0))
        cells = [f"{one.mean():+.1f}" for one in apart]
        mean = statistics.mean(float(one.mean()) for one in apart)
        table_row(side, [*cells, f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", len(seeds)])


def by_number(runs: Runs, seeds: Sequence[int], tasks: Sequence[str]) -> None:
    """Routing accuracy with the first tasks only."""
    print("\nRouting accuracy by number of tasks, in the order given:\n")
    table_row("tasks", [*tasks, "mean"])
    print("|---" * (len(tasks) + 2) + "|")
    for count in range(2, len(tasks) + 1):
        last, own = tasks[count - 1], tasks[:count]
        found = [runs.by_key[last, seed, f"{ROUTER} over {count}"]["sent"] for seed in seeds]
        means = [statistics.mean(one[task] for one in found) for task in own]
        blank = [""] * (len(tasks) - count)
        table_row(
            str(count), [*(f"{one:.3f}" for one in means), *blank, f"{statistics.mean(means):.3f}"]
        )


def _mean(values: Sequence[float]) -> float:
    return statistics.mean(values) if values else 0.0


if __name__ == "__main__":
    main()
