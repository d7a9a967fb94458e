"""The front: accuracy against numbers, of every side that `paper.py` has trained, as a picture.

Run it with: python examples/benchmarks/front.py [--out examples/benchmarks/results/front.svg]

Reads the finished runs of `paper.py` and trains nothing. A point is the mean over tasks of a side's
mean over seeds; its bar is the interval of `intervals.py`. Sides that lack a task, or one of
``--seeds``, are left out, and second names of the same runs; without ``--seeds`` the seeds are
those that all sides have. A side is on the
front if none with as few numbers or fewer has a higher mean.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import Any

import numpy as np
from intervals import bits, interval
from machine import describe
from paper import SIDES, TASKS, named

RESULTS = Path(__file__).parent / "results"
WIDTH, HEIGHT, LEFT, BOTTOM, EDGE, LINE = 640, 360, 64, 48, 24, 13


@dataclass(frozen=True)
class Point:
    """A side: its numbers, its mean accuracy, and the ends of the interval."""

    side: str
    numbers: int
    mean: float
    low: float
    high: float


def points(path: Path, tasks: Sequence[str], rows: int, wanted: Sequence[int] = ()) -> list[Point]:
    """Every side with runs of each task, on the seeds that are wanted or that all of them have."""
    runs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    by_side: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for side in SIDES:
        own = {
            task: {
                run["seed"]: run
                for run in runs
                if (run["task"], run["tried"]) == (task, named(side, task, rows))
            }
            for task in tasks
        }
        whole = all(one and one.keys() >= set(wanted) for one in own.values())
        if whole and own not in by_side.values():
            by_side[side] = own
    shared = (set(one) for own in by_side.values() for one in own.values())
    seeds = set(wanted) or set.intersection(*shared)
    found = []
    for side, own in by_side.items():
        answers = [bits([one[seed]["right"] for seed in sorted(seeds)]) for one in own.values()]
        mean = float(np.mean([one.mean() for one in answers]))
        numbers = next(iter(own[tasks[0]].values()))["params"]
        found.append(Point(side, numbers, mean, *interval(answers, np.random.default_rng(0))))
    return sorted(found, key=lambda one: one.numbers)


def front(found: Sequence[Point]) -> list[Point]:
    """Those that no side with as few numbers or fewer beats."""
    return [
        one
        for one in found
        if not any(o.numbers <= one.numbers and o.mean > one.mean for o in found)
    ]


def drawn(found: Sequence[Point]) -> str:
    """The picture as SVG."""
    across = [log10(one.numbers) for one in found if one.numbers]
    low, high = min(one.low for one in found), max(one.high for one in found)
    least, most = min(across) - 0.5, max(across) + 0.35

    def x(numbers: float) -> float:
        beyond = log10(numbers) - least if numbers else 0.05
        return LEFT + beyond / (most - least) * (WIDTH - LEFT - EDGE)

    def y(share: float) -> float:
        return EDGE + (high - share) / (high - low) * (HEIGHT - BOTTOM - EDGE)

    best = front(found)
    line = " ".join(f"{x(one.numbers):.0f},{y(one.mean):.0f}" for one in best)
    told = "; ".join(f"{one.side} {one.numbers:,} numbers, {one.mean:.3f}" for one in found)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>Accuracy against numbers</title><desc>{told}</desc>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<g font-family="sans-serif" font-size="12" fill="#1c2126">'
        f'<polyline points="{line}" fill="none" stroke="#1f5f8b" stroke-dasharray="4 3"/>'
    ]
    free = {"start": 0.0, "end": 0.0}
    for one in sorted(found, key=lambda one: -one.mean):
        left, top = x(one.numbers), y(one.mean)
        colour = "#1f5f8b" if one in best else "#8a6d1f"
        side, anchor = (-1, "end") if left > WIDTH * 0.7 else (1, "start")
        line = max(top - 7 if side < 0 else top + 16, free[anchor])
        free[anchor] = line + LINE
        parts.append(
            f'<line x1="{left:.0f}" x2="{left:.0f}" y1="{y(one.low):.0f}" y2="{y(one.high):.0f}" '
            f'stroke="{colour}"/><circle cx="{left:.0f}" cy="{top:.0f}" r="5" fill="{colour}"/>'
            f'<text x="{left + side * 9:.0f}" y="{line:.0f}" text-anchor="{anchor}">'
            f"{one.side}, {one.numbers:,}: {one.mean:.3f}</text>"
        )
    step = 0.01
    for number in range(int(low / step) + 1, int(high / step) + 1):
        height = y(number * step)
        parts.append(
            f'<text x="{LEFT - 10}" y="{height + 4:.0f}" text-anchor="end">{number * step:.2f}'
            f'</text><line x1="{LEFT - 6}" x2="{LEFT - 2}" y1="{height:.0f}" y2="{height:.0f}" '
            'stroke="#1c2126"/>'
        )
    parts.append(
        f'<text x="{(WIDTH + LEFT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">'
        "numbers of an adapter (logarithmic; none at the left)</text></g></svg>"
    )
    return "".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=RESULTS / "paper.jsonl")
    parser.add_argument("--rows", type=int, default=720, help="rows a task of these runs")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=(), help="seeds a side must have")
    parser.add_argument("--out", type=Path, default=RESULTS / "front.svg")
    options = parser.parse_args(argv)
    describe(0)
    found = points(options.runs, options.tasks, options.rows, options.seeds)
    best = front(found)
    print("| side | numbers | mean | 95% | on the front |\n|---|---|---|---|---|")
    for one in found:
        on = "yes" if one in best else "no"
        print(
            f"| {one.side} | {one.numbers:,} | {one.mean:.4f} | {one.low:.4f} to {one.high:.4f} "
            f"| {on} |"
        )
    options.out.write_text(drawn(found), encoding="utf-8")


if __name__ == "__main__":
    main()
