"""The paper's mixed tasks: a routed bank beside AdapterFusion, with the task not told.

Run it with:
    python examples/benchmarks/fusion.py ../shared/data --work FOLDER --dtype bfloat16

Sides, all on the same rows with the same tokens, which ``fusion_bank.py`` writes to a file:

- the bank: experts by the product's own path and defaults, the router refitted after each task;
  answers with the router choosing, and with the task named.
- Pfeiffer adapters (reduction 16, full depth), one a task, with the task named; the product's
  epochs, patience, batches, schedule and start of the head. One rate for all tasks, of three.
- AdapterFusion over them, fairly: one head over all classes of all tasks, trained on the rows of
  all tasks. An answer is right if class and task are. Beside it the same model with the head cut to
  the row's own task, which is what it would answer if the task were told.
- AdapterFusion over them as the paper's authors published it: one epoch at 5e-5, a head that all
  tasks share. Its answers have no task, so they are judged by the class alone, which flatters it.

Rates are chosen at the first seed on the held-out training rows, those of fusions after
``--grid-epochs``; validation rows choose nothing. Adapters and fusions are trained in an
environment of their own in ``--work``, made where it is missing, by ``others/adapter_fusion.py``.
With bfloat16 the bank's backbone is in it, and adapters run in autocast, weights in float32.

Every finished run is one line of ``--out`` and is not repeated; banks and adapters in ``--work``
are gone on with, so keep or delete both together. The tables, printed after each seed, are of the
seeds that all sides have. The last one is the share of each task's validation rows (those that
``add`` keeps features of) that are sent to it by the router over the first tasks only. Intervals
are those of ``trials.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fusion_adapters import ALL, Adapters, Run, adapter, best, fusion, key_of, named, published
from fusion_bank import ANSWERS, EXPERT, ROUTER, answer, grow, opened, shared_rows
from machine import describe
from paper import TASKS
from trials import Runs, bits, interval, share, table_row

from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.config import DEFAULT_BACKBONE

OURS = "bank, routed"
FAIR = "AdapterFusion, task not told"
Answers = dict[str, dict[str, list[str]]]
"""By side and task the answers, a text of ones and zeros a seed."""


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    describe(options.seeds[0])
    names = ("rows", "eval_limit", "max_length", "dtype", "backbone", "tasks")
    conditions = {name: getattr(options, name) for name in names}
    print(json.dumps(conditions), flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    runs = Runs(options.out, conditions)
    backbone = load_backbone(options.backbone, dtype=options.dtype)
    options.folder = backbone.place.path
    for seed in options.seeds:
        one_seed(seed, runs, backbone, options)
        report(runs, options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--rows", type=int, default=720, help="training rows a task")
    parser.add_argument("--eval-limit", type=int, default=1000, help="validation rows a task")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--adapter-rates", type=float, nargs="+", default=[3e-4, 1e-3, 3e-3])
    parser.add_argument("--fusion-rates", type=float, nargs="+", default=[1e-4, 3e-4, 1e-3])
    parser.add_argument("--fusion-epochs", type=int, default=6)
    parser.add_argument("--fusion-patience", type=int, default=2)
    parser.add_argument("--grid-epochs", type=int, default=2)
    parser.add_argument("--only-bank", action="store_true", help="leave the other sides out")
    out = Path(__file__).parent / "results" / "fusion.jsonl"
    parser.add_argument("--out", type=Path, default=out)
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
    other.do([published(rate)])
    if first:
        other.do([run for _, own in fusion_grid(rate, options) for run in own])
    chosen = best(runs, options.seeds[0], fusion_grid(rate, options))
    other.do([fusion(options, rate, chosen, answer=True)])


def adapter_grid(options: argparse.Namespace) -> list[tuple[float, list[Run]]]:
    """Rates of adapters, each with its runs."""
    rates = options.adapter_rates
    return [(rate, [adapter(t, rate, answer=False) for t in options.tasks]) for rate in rates]


def fusion_grid(adapter_rate: float, options: argparse.Namespace) -> list[tuple[float, list[Run]]]:
    """Rates of fusions, each with its run."""
    rates = options.fusion_rates
    return [(rate, [fusion(options, adapter_rate, rate, answer=False)]) for rate in rates]


def report(runs: Runs, options: argparse.Namespace) -> None:
    """The tables of the seeds that are whole."""
    wanted = [(task, ANSWERS) for task in options.tasks]
    if not options.only_bank:
        rate = best(runs, options.seeds[0], adapter_grid(options))
        chosen = best(runs, options.seeds[0], fusion_grid(rate, options))
        fair, paper = fusion(options, rate, chosen, answer=True), published(rate)
        wanted += [(t, named(adapter(t, rate, answer=True))) for t in options.tasks]
        wanted += [(ALL, named(fair)), (ALL, named(paper))]
    seeds = [s for s in options.seeds if all((t, s, n) in runs.by_key for t, n in wanted)]

    def of(task: str, tried: str, what: str) -> list[str]:
        return [runs.by_key[task, seed, tried][what] for seed in seeds]

    def parts(run: Run, what: str) -> dict[str, list[str]]:
        found = [runs.by_key[key_of(run, seed)][what] for seed in seeds]
        return {task: [one[task] for one in found] for task in options.tasks}

    answers: Answers = {
        OURS: {task: of(task, ANSWERS, "right") for task in options.tasks},
        "bank, task named": {task: of(task, ANSWERS, "named") for task in options.tasks},
    }
    sent: Answers = {OURS: {task: of(task, ANSWERS, "sent") for task in options.tasks}}
    sizes = {side: bank_size(runs, seeds, options) for side in answers}
    if not options.only_bank:
        own = {task: adapter(task, rate, answer=True) for task in options.tasks}
        answers["Pfeiffer adapters, task named"] = {
            task: of(task, named(run), "right") for task, run in own.items()
        }
        answers[FAIR] = parts(fair, "right")
        answers["AdapterFusion, task told"] = parts(fair, "named")
        answers["AdapterFusion as published, class alone"] = parts(paper, "right")
        sent[FAIR] = parts(fair, "sent")
        alone = size(runs, seeds, list(own.values()))
        whole, short = (added(alone, size(runs, seeds, [run])) for run in (fair, paper))
        sizes |= dict(zip(list(answers)[2:], (alone, whole, whole, short), strict=True))
        print(f"\nrates: adapters {rate:g}, fusion {chosen:g}")
    shares(answers, sizes, options.tasks, len(seeds))
    gaps(answers, options.tasks, len(seeds))
    print("\nShare of rows that are answered for their own task:\n")
    shares(sent, {}, options.tasks, len(seeds))
    by_number(runs, seeds, options.tasks)


def bank_size(runs: Runs, seeds: Sequence[int], options: argparse.Namespace) -> tuple[int, float]:
    """Numbers of experts, heads and router, and mean minutes of training them."""
    tasks, last = options.tasks, options.tasks[-1]
    experts = [[runs.by_key[task, seed, EXPERT] for task in tasks] for seed in seeds]
    routers = [runs.by_key[last, seed, f"{ROUTER} over {len(tasks)}"] for seed in seeds]
    numbers = sum(run["adapter_params"] + run["head_params"] for run in experts[0])
    seconds = [sum(run["seconds"] for run in own) for own in experts]
    seconds = [one + router["seconds"] for one, router in zip(seconds, routers, strict=True)]
    return numbers + routers[0]["params"], statistics.mean(seconds) / 60


def size(runs: Runs, seeds: Sequence[int], wanted: Sequence[Run]) -> tuple[int, float]:
    """Numbers that were trained, heads included, and mean minutes."""
    found = [[runs.by_key[key_of(run, seed)] for run in wanted] for seed in seeds]
    numbers = sum(run["params"] + run["head_params"] for run in found[0])
    return numbers, statistics.mean(sum(run["seconds"] for run in own) for own in found) / 60


def added(one: tuple[int, float], other: tuple[int, float]) -> tuple[int, float]:
    """Both together."""
    return one[0] + other[0], one[1] + other[1]


def shares(
    answers: Answers, sizes: dict[str, tuple[int, float]], tasks: Sequence[str], seeds: int
) -> None:
    """The table of right answers by task, and what each side takes."""
    table_row("side", ["numbers", *tasks, "mean", "seeds", "minutes a seed"])
    print("|---" * (len(tasks) + 5) + "|")
    for side, own in answers.items():
        means = [statistics.mean(map(share, own[task])) for task in tasks]
        figures = [f"{mean:.4f}" for mean in (*means, statistics.mean(means))]
        numbers, minutes = sizes.get(side, (None, None))
        counted = "" if numbers is None else f"{numbers:,}"
        taken = "" if minutes is None else f"{minutes:.1f}"
        table_row(side, [counted, *figures, seeds, taken])


def gaps(answers: Answers, tasks: Sequence[str], seeds: int) -> None:
    """The routed bank's distance from every other side, in points."""
    print()
    table_row(f"{OURS}, against", [*tasks, "points", "95%", "seeds"])
    print("|---" * (len(tasks) + 4) + "|")
    for side, own in answers.items():
        if side == OURS:
            continue
        apart = [100 * (bits(answers[OURS][task]) - bits(own[task])) for task in tasks]
        low, high = interval(apart, np.random.default_rng(0))
        cells = [f"{one.mean():+.1f}" for one in apart]
        mean = statistics.mean(float(one.mean()) for one in apart)
        table_row(side, [*cells, f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", seeds])


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


if __name__ == "__main__":
    main()
