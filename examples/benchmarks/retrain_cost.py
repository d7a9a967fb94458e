"""What retraining the router costs as tasks are added: at most linear in the tasks.

Run it with: python examples/benchmarks/retrain_cost.py ../shared/data [--cache DIR]

First the fit over real cached features of 2 to 12 tasks. Then a closed form from synthetic
moments of 512 dimensions (what `--keep stats` keeps), to 10,000 tasks: reading moments, summing
them, solving, and the statistics of the unknown score. Old texts read: 0, for neither fit has
any way to reach a text. Last, what a task's routing memory takes in bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import torch
from expertbank.training.gates import FITS, Block, Examples
from machine import describe
from routing_features import arguments, real_tasks

from expertbank.config import GATE_KINDS, RouterConfig, sha256_text
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.fit import fit_router
from expertbank.routing.moments import BalancedMoments, Moments
from expertbank.routing.unknown import fit_unknown

WIDTH = 512


def synthetic(name: str) -> Moments:
    """Moments of 600 rows around a centre of their own."""
    generator = torch.Generator().manual_seed(int(sha256_text(name)[:12], 16))
    centre = torch.randn(WIDTH, generator=generator)
    return Moments.of(centre + torch.randn(600, WIDTH, generator=generator))


def from_moments(tasks: int, templates: Sequence[Moments]) -> float:
    """Seconds to add up and solve; each task's moments are a template about its own mean."""
    started = time.monotonic()
    mixture = BalancedMoments()
    for place in range(tasks):
        mixture.add(templates[place % len(templates)])
    examples = Examples([Block(list(range(tasks)), mixture)], (), ())
    FITS[RouterConfig().kind](examples, RouterConfig())
    fit_unknown(mixture, WIDTH)
    return time.monotonic() - started


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="*", default=[2, 4, 8, 12])
    parser.add_argument("--synthetic", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--kinds", nargs="*", default=list(GATE_KINDS), choices=list(GATE_KINDS))
    options = parser.parse_args(argv)
    describe(options.seed)
    tasks = [task.fitted_on(tuning=False) for task in real_tasks(options)]
    steps = [number for number in options.steps if number <= len(tasks)]
    print("| gate | " + " | ".join(f"{number} tasks, s" for number in steps) + " |")
    print("|---" * (len(steps) + 1) + "|")
    for kind in options.kinds:
        seconds = []
        for number in steps:
            started = time.monotonic()
            fit_router(tasks[:number], RouterConfig(kind), "0" * 64)
            seconds.append(time.monotonic() - started)
        print(f"| {kind} | " + " | ".join(f"{value:.2f}" for value in seconds) + " |", flush=True)
    print(f"\n{RouterConfig().kind} from synthetic moments of {WIDTH} dimensions")
    print("| tasks | seconds | milliseconds a task |")
    print("|---|---|---|")
    templates = [synthetic(str(place)) for place in range(16)]
    found = []
    for number in options.synthetic:
        found.append((number, from_moments(number, templates)))
        print(
            f"| {number:,} | {found[-1][1]:.2f} | {1000 * found[-1][1] / number:.2f} |", flush=True
        )
    for (few, before), (many, after) in pairwise(found):
        print(f"{many / few:.0f} times the tasks took {after / before:.1f} times as long")
    print("old texts read: 0")
    dimension = tasks[0].train.shape[1]
    rows, other = (torch.zeros(2000, dimension, dtype=torch.float16) for _ in range(2))
    features = len(
        FeatureFile(rows, other, ("pair",) * 2000, ("pair",) * 2000, "0" * 64).to_bytes()
    )
    moments = 8 * (WIDTH * (WIDTH + 1) // 2 + WIDTH)
    print("\n| kept | a task, bytes | 10,000 tasks, GB |")
    print("|---|---|---|")
    print(f"| features, {dimension} wide | {features:,} | {features / 1e5:,.1f} |")
    print(f"| moments, {WIDTH} wide | {moments:,} | {moments / 1e5:,.1f} |")
    gate = 4 * (dimension + 1) + 4 * 256
    print(f"| in the router, lda | {gate:,} | {gate / 1e5:,.2f} |")


if __name__ == "__main__":
    main()
