"""How the defaults of training and of adapters are chosen: a search that reads training rows only.

Run it with: python examples/benchmarks/recipe.py ../shared/data --dtype bfloat16

Every task's training rows are cut three ways: rows to train on, rows that choose the checkpoint
(as in ``add``), and rows that judge a setting. No validation row is looked at. The search goes in
stages, each starting from what the one before chose. A stage halves (Jamieson & Talwalkar,
"Non-stochastic best arm identification", 2016): all its settings at the first seed, the better
half and the reference at the second, and so on; only settings that have seen every seed can be
chosen. The reference stays unless the best one's gain over it exceeds the standard error of that
gain, which is that of paired differences over tasks and seeds.

Every finished run is one line of ``--out`` and is not repeated; the program may be stopped at any
time. ``--stages`` names those that are run, in order; without the first the start is what the
product does by default. ``--every-seed`` drops no setting: differences of half a point need all
tasks and seeds. Heads read the mean, and weights are those of the last step of an epoch, unless a
setting says otherwise. ``ways.py`` has the ways to train that the product does not have.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lora_xs  # noqa: F401 - adds a kind of adapter
import shapes  # noqa: F401 - adds kinds of adapter
import torch
from machine import describe
from trials import PATIENCE_OF, Runs, accuracy, command_line, judged_job
from ways import WAYS

from expertbank import AdapterConfig, TrainConfig
from expertbank.adapters.adapter import DEFAULT_RATE
from expertbank.backbones.backbone import load_backbone
from expertbank.config import FeatureSpec
from expertbank.tt.shape import DEFAULT_RANK

TASKS = ("sst2", "sick", "mrpc", "qnli", "mnli")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Setting:
    """One thing to try: fields of ``AdapterConfig``, ``TrainConfig`` and ``FeatureSpec``, and how.

    ``way`` is one of ``WAYS``.
    """

    adapter: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    way: str = ""

    @property
    def name(self) -> str:
        """What it sets."""
        both = {**self.adapter, **self.train, **self.spec}
        both |= {"way": self.way} if self.way else {}
        return ", ".join(f"{name} {_short(both[name])}" for name in sorted(both))

    def but(self, **train: Any) -> Setting:
        """The same with other training settings."""
        return replace(self, train={**self.train, **train})

    def shaped(self, **adapter: Any) -> Setting:
        """The same training with another adapter."""
        return replace(self, adapter=adapter)


START = Setting(
    {"tt_rank": 5}, {"epochs": 3, "patience": 3, "lr": 5e-3, "head_lr": 1e-3, "weight_decay": 0.01}
)
"""The defaults before this search."""


def as_shipped() -> Setting:
    """A train of the rank that is the default where the backbone is wide, trained by default."""
    train = TrainConfig()
    names = ("epochs", "patience", "head_lr", "weight_decay")
    own = {name: getattr(train, name) for name in names}
    return Setting({"tt_rank": DEFAULT_RANK}, {"lr": DEFAULT_RATE, **own})


def length_and_rates(start: Setting) -> tuple[Setting, ...]:
    """Every source of tiny adapters trains 10 to 100 epochs, with a rate for cores and head."""
    return (
        start,
        start.but(epochs=10),
        start.but(epochs=10, lr=1e-2),
        start.but(epochs=10, head_lr=4e-3),
        start.but(epochs=10, lr=1e-2, head_lr=4e-3),
        start.but(epochs=20, patience=5),
    )


def bonds(start: Setting) -> tuple[Setting, ...]:
    """Uneven bonds at the same size: the bonds inside a side bind, the middle one does not."""
    return (start, start.shaped(tt_rank=(9, 2, 9)), start.shaped(tt_rank=(7, 3, 7)))


def kinds(start: Setting) -> tuple[Setting, ...]:
    """Other kinds of about the same size, at the rates of trains and at others."""
    lora, frame = start.shaped(kind="lora", rank=1), start.shaped(kind="lora-xs", rank=32)
    return (
        start,
        lora,
        lora.but(lr=2e-3),
        start.shaped(kind="uni-lora", rank=4),
        frame,
        frame.but(lr=1e-3),
    )


def reference(start: Setting) -> tuple[Setting, ...]:
    """The rate of what is compared with: LoRA of rank 16 at full depth, where alpha / r is 2."""
    full = Setting({"kind": "lora", "rank": 16, "alpha": 2.0}, start.train, {"route_layer": 0})
    return (full.but(lr=1e-3), full.but(lr=3e-3), full.but(lr=5e-4))


def slower(start: Setting) -> tuple[Setting, ...]:
    """Lower rates of the cores, as the other kinds turned out to like them."""
    return (start, start.but(lr=3e-3), start.but(lr=2e-3))


def batches(start: Setting) -> tuple[Setting, ...]:
    """Smaller batches: with few rows an epoch of 16 is some forty steps."""
    small = start.but(batch_size=8)
    return (start, small, small.but(lr=2e-3), start.but(batch_size=4, lr=2e-3))


def places(start: Setting) -> tuple[Setting, ...]:
    """Other projections at no more than 6% of LoRA's numbers, by trains and by LoRA of rank 1."""
    output, inner = "attention.output.dense", "intermediate.dense"
    lora = start.but(lr=2e-3).shaped(kind="lora", rank=1)

    def on(setting: Setting, *modules: str, **adapter: Any) -> Setting:
        return setting.shaped(**{**setting.adapter, **adapter}, modules=modules)

    return (
        start,
        on(start, "value", output),
        on(start, inner, tt_rank=7),
        on(start, "value", inner),
        on(start, "query", "value", output, inner, tt_rank=3),
        lora,
        on(lora, "value", output),
        on(lora, inner),
    )


def ways(start: Setting) -> tuple[Setting, ...]:
    """Other starts of the cores, trained large and brought down, and a teacher."""
    names = ("", "gradient", "weights", "swept", "taught")
    return tuple(replace(start, way=way) for way in names)


def decay(start: Setting) -> tuple[Setting, ...]:
    """Other decay, and larger and smaller updates."""
    adapter = start.adapter
    return (
        start,
        start.but(weight_decay=0.0),
        start.but(weight_decay=0.1),
        start.shaped(**adapter, alpha=2.0),
        start.shaped(**adapter, alpha=16.0),
    )


def cuts(start: Setting) -> tuple[Setting, ...]:
    """Other factors of a train, down to one a side, which is LoRA; and one train for all layers."""
    lora, slow = start.shaped(kind="lora", rank=1), start.but(lr=2e-3)
    return (
        start,
        lora,
        slow.shaped(**lora.adapter),
        slow.shaped(kind="tt-cut-2", tt_rank=(2, 4, 2)),
        slow.shaped(kind="tt-cut-4", tt_rank=(4, 4, 4)),
        slow.shaped(kind="tt-cut-8", tt_rank=5),
        slow.shaped(kind="tt-across", rank=8),
        slow.shaped(kind="tt-across-alike", rank=8),
        slow.shaped(kind="tt-across-16", rank=16),
    )


def depths(start: Setting) -> tuple[Setting, ...]:
    """Branches that begin lower: what it costs to route from a third of the depth."""
    lora = start.shaped(kind="lora", rank=1)
    return (lora, *(replace(lora, spec={"route_layer": layer}) for layer in (1, 0)))


def regular(start: Setting) -> tuple[Setting, ...]:
    """What keeps few rows from being learnt by heart, and the held-out rows trained on, too."""
    lora = start.shaped(kind="lora", rank=1)
    ways = (replace(lora, way=way) for way in ("dropout", "smoothed", "refitted"))
    return (lora, *ways, lora.but(weight_decay=0.1))


def heads(start: Setting) -> tuple[Setting, ...]:
    """Heads of pairs, for tasks of two texts (``--tasks``)."""
    mean = start.shaped(kind="lora", rank=1)
    pair = start.shaped(kind="lora", rank=1, pooling="pair")
    return (mean, pair, pair.but(lr=2e-3))


def head_rates(start: Setting) -> tuple[Setting, ...]:
    """Lower rates of heads of pairs: an equal step of three times the numbers moves more."""
    pair = start.shaped(kind="lora", rank=1, pooling="pair")
    return (pair, pair.but(head_lr=3e-4), pair.but(head_lr=1e-4))


def rates(start: Setting) -> tuple[Setting, ...]:
    """Rates of the default, to be tried with more rows too (``--rows``)."""
    lora = start.shaped(kind="lora", rank=1)
    return (lora, lora.but(lr=2e-3), lora.but(lr=1e-2))


def reach(start: Setting) -> tuple[Setting, ...]:
    """What thousands of rows ask for (``--rows``): rank, or layers below the branch."""
    lora = start.shaped(kind="lora", rank=1, pooling="auto")
    large = lora.but(lr=1e-3).shaped(**{**lora.adapter, "rank": 16, "alpha": 2.0})
    return (
        lora,
        replace(large, spec={"route_layer": 0}),
        large,
        lora.but(lr=2e-3).shaped(**{**lora.adapter, "rank": 4}),
        replace(lora, spec={"route_layer": 1}),
        replace(lora.but(lr=2e-3), spec={"route_layer": 0}),
        lora.but(average_steps=50),
    )


def depth_with_rows(start: Setting) -> tuple[Setting, ...]:
    """Layers below the branch with thousands of rows (``--rows``), at the same multiplier."""
    lora, some, large = _of_ranks(start)
    deep = {"route_layer": 0}
    return (
        lora,
        replace(large, spec=deep),
        replace(lora, spec=deep),
        replace(lora.but(lr=2e-3), spec=deep),
        replace(some, spec=deep),
        large,
    )


def rank_with_rows(start: Setting) -> tuple[Setting, ...]:
    """Ranks and trains between the default and LoRA of rank 16, with thousands of rows."""
    lora, some, large = _of_ranks(start)
    train = lora.shaped(tt_rank=DEFAULT_RANK, pooling="auto", alpha=4.0)
    deep = {"route_layer": 0}
    return (
        lora,
        some,
        some.but(lr=5e-3),
        train,
        replace(train.but(lr=2e-3), spec=deep),
        replace(some.shaped(**{**some.adapter, "rank": 2}), spec=deep),
        train.but(lr=2e-3),
        large.shaped(**{**some.adapter, "rank": 8}),
        large.shaped(**{**some.adapter, "rank": 16}),
    )


def rank_of_the_rule(start: Setting) -> tuple[Setting, ...]:
    """Rank 1 beside 4 alone: at other numbers of rows (``--rows``), for other kinds of tasks."""
    return _of_ranks(start)[:2]


def factors(start: Setting) -> tuple[Setting, ...]:
    """A rate for each of LoRA's two factors."""
    lora = _of_ranks(start)[0]
    slow, fast = replace(lora, way="A/10"), replace(lora, way="3A")
    names = ("A frozen", "A/3", "10A")
    return (
        lora,
        slow,
        slow.but(lr=1e-2),
        fast,
        fast.but(lr=2e-3),
        *(replace(lora, way=name) for name in names),
    )


def _of_ranks(start: Setting) -> tuple[Setting, Setting, Setting]:
    """LoRA of rank 1, 4 and 16 in the branch, each at its rate, with all that ``add`` does."""
    lora = start.shaped(kind="lora", rank=1, pooling="auto", alpha=4.0).but(average_steps=50)
    some = lora.but(lr=2e-3).shaped(**{**lora.adapter, "rank": 4})
    return lora, some, lora.but(lr=1e-3).shaped(**{**lora.adapter, "rank": 16, "alpha": 2.0})


STAGES = {
    "length": (length_and_rates, 3, True),
    "bonds": (bonds, 3, True),
    "kinds": (kinds, 1, False),
    "reference": (reference, 1, False),
    "slower": (slower, 3, True),
    "batches": (batches, 3, True),
    "places": (places, 3, False),
    "ways": (ways, 3, False),
    "decay": (decay, 3, False),
    "cuts": (cuts, 3, False),
    "depths": (depths, 3, False),
    "regular": (regular, 3, False),
    "rates": (rates, 3, False),
    "heads": (heads, 3, False),
    "head rates": (head_rates, 3, False),
    "reach": (reach, 3, False),
    "depth with rows": (depth_with_rows, 3, False),
    "rank with rows": (rank_with_rows, 3, False),
    "rank of the rule": (rank_of_the_rule, 3, False),
    "factors": (factors, 3, False),
}
"""What is tried, with how many seeds, and whether later stages start from the winner."""


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    describe(options.seeds[0])
    names = ("rows", "judge", "max_length", "dtype", "backbone")
    conditions = {name: getattr(options, name) for name in names} | {"patience": PATIENCE_OF}
    print(json.dumps(conditions), flush=True)
    search = Search(Runs(options.out, conditions), options)
    default = START if options.stages[0] == next(iter(STAGES)) else as_shipped()
    for name in options.stages:
        stage, seeds, decides = STAGES[name]
        print(f"\nstage {name}: {stage.__doc__}", flush=True)
        chosen = search.halve(stage(default), options.seeds[:seeds])
        print(f"\nchosen: {chosen.name}", flush=True)
        default = chosen if decides else default


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__, "recipe", TASKS)
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--judge", type=int, default=1000, help="rows a task that judge a setting")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--every-seed", action="store_true", help="drop no setting on the way")
    return parser.parse_args()


class Search:
    """The halving of one stage after another.

    Args:
        runs: those that are done.
        options: the command line.
    """

    def __init__(self, runs: Runs, options: argparse.Namespace) -> None:
        self.runs, self.tasks = runs, options.tasks
        self.options = options
        self.backbone = load_backbone(options.backbone, dtype=options.dtype)

    def halve(self, settings: Sequence[Setting], seeds: Sequence[int]) -> Setting:
        """Try settings, the first of which is the reference; returns the one chosen."""
        left = list(settings)
        for place, seed in enumerate(seeds):
            for task in self.tasks:
                for setting in left:
                    self.run(task, seed, setting)
            seen = seeds[: place + 1]
            ranked = sorted(left, key=lambda one: -self.mean(one, seen))
            self.table(ranked, settings[0], seen)
            if place + 1 < len(seeds) and not self.options.every_seed:
                kept = ranked[: max(2, math.ceil(len(ranked) / 2))]
                left = [one for one in left if one in kept or one is settings[0]]
        gain, error = self.gap(ranked[0], settings[0], seeds)
        return ranked[0] if gain > error else settings[0]

    def run(self, task: str, seed: int, setting: Setting) -> None:
        """Train one setting and let it be judged, if that was not done before."""
        key = (task, seed, setting.name)
        if key in self.runs.by_key:
            return
        options, spec = self.options, self.spec(setting)
        adapter = AdapterConfig(**{"pooling": "mean", **setting.adapter})
        wish = adapter, TrainConfig(seed=seed, **{"average_steps": 1, **setting.train})
        sizes = options.rows, options.judge
        job, judge = judged_job(task, options.data / task, self.backbone, spec, *wish, *sizes)
        started = time.monotonic()
        expert = WAYS[setting.way](job, self.backbone)
        right = accuracy(job, expert.file, judge, self.backbone)
        facts = {
            "params": expert.adapter_params,
            "selection": expert.selection_score,
            "judge": right,
            "best_epoch": expert.best_epoch,
            "seconds": round(time.monotonic() - started, 1),
        }
        self.runs.add(key, facts)
        print(
            f"{task}, seed {seed}, {setting.name}: {right:.3f}, best of epoch "
            f"{expert.best_epoch}, {facts['seconds']:.0f} s",
            flush=True,
        )

    def spec(self, setting: Setting) -> FeatureSpec:
        """What a bank under these conditions would have."""
        length, dtype = self.options.max_length, self.options.dtype
        given = {"max_length": length, "dtype": dtype, **setting.spec}
        return self.backbone.default_feature_spec(**given)

    def values(self, setting: Setting, seeds: Sequence[int], what: str = "judge") -> list[float]:
        """A figure of a setting's runs, by seed and task."""
        return [self.runs.by_key[t, s, setting.name][what] for s in seeds for t in self.tasks]

    def epochs(self, setting: Setting, seeds: Sequence[int]) -> float:
        """Epochs trained a run, a measure of time that is the same on every machine."""
        most, patience = setting.train["epochs"], setting.train["patience"]
        best = self.values(setting, seeds, "best_epoch")
        return statistics.mean(min(most, one + patience) for one in best)

    def mean(self, setting: Setting, seeds: Sequence[int]) -> float:
        """Mean accuracy over seeds and tasks."""
        return statistics.mean(self.values(setting, seeds))

    def gap(self, one: Setting, other: Setting, seeds: Sequence[int]) -> tuple[float, float]:
        """Mean paired difference over tasks and seeds, and its standard error."""
        both = zip(self.values(one, seeds), self.values(other, seeds), strict=True)
        gaps = [mine - theirs for mine, theirs in both]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else math.inf
        return statistics.mean(gaps), error

    def table(self, ranked: Sequence[Setting], first: Setting, seeds: Sequence[int]) -> None:
        """Settings so far, best first."""
        head = ("setting", "numbers", *self.tasks, "mean", "points", "error", "epochs", "minutes")
        print(f"\n| {' | '.join(head)} |")
        print("|---" * (len(self.tasks) + 7) + "|")
        for one in ranked:
            runs = [[self.runs.by_key[t, s, one.name] for s in seeds] for t in self.tasks]
            cells = [f"{statistics.mean(run['judge'] for run in own):.3f}" for own in runs]
            gap, error = self.gap(one, first, seeds)
            minutes = sum(self.values(one, seeds, "seconds")) / 60
            print(
                f"| {one.name} | {runs[0][0]['params']:,} | {' | '.join(cells)} "
                f"| {self.mean(one, seeds):.4f} | {100 * gap:+.2f} | {100 * error:.2f} "
                f"| {self.epochs(one, seeds):.1f} | {minutes:.1f} |",
                flush=True,
            )


def _short(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(_short, value))
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


if __name__ == "__main__":
    main()
