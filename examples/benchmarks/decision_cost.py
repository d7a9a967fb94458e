"""What choosing costs: the router's decision alone, and its size, by the number of experts.

Run it with: OMP_NUM_THREADS=1 python examples/benchmarks/decision_cost.py [--experts 12 1000 10000]

Routers of the default kind over MiniLM's default features (2,304 numbers a row). Twelve are fitted
on random rows about twelve centres; larger ones have more columns of the same sizes and random
numbers, since what is measured does not depend on them. Timed is what a pass does between the trunk
and the branch (`Router.route`) and after it (`Router.judge`), for one row and for a batch of 32:
median of so many calls, the sizes taken in turn. The file is what a bundle carries.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from machine import describe

from expertbank.config import sha256_text
from expertbank.routing.columns import Member
from expertbank.routing.config import RouterConfig
from expertbank.routing.gates.layers import Layer, LayeredGate
from expertbank.routing.router import Router
from expertbank.routing.unknown import UnknownModel
from expertbank.testing.routers import TaskFeatures, fit_router

WIDTH, BLOCKS, FITTED, ROWS = 2304, 6, 12, 120
BATCHES = (1, 32)


def fitted() -> Router:
    """Over twelve tasks."""
    generator = torch.Generator().manual_seed(0)
    tasks = []
    for number in range(FITTED):
        rows = torch.randn(WIDTH, generator=generator) * 0.5
        rows = (rows + torch.randn(ROWS, WIDTH, generator=generator)).half()
        name = f"task{number}"
        own = TaskFeatures(
            *(f"{name}@1", sha256_text(name), name, "classification", None),
            *(rows, ("single",) * ROWS),
        )
        tasks.append(own)
    return fit_router(tasks, RouterConfig(), "0" * 64, blocks=BLOCKS)


def widened(router: Router, columns: int) -> Router:
    """The router with so many columns."""
    (layer,) = router.gate.layers
    model = router.unknown
    assert isinstance(model, UnknownModel)
    repeat = -(-columns // FITTED)
    noise = 1 + 0.1 * torch.randn(columns, generator=torch.Generator().manual_seed(1))
    weight = layer.weight.repeat(1, repeat)[:, :columns] * noise
    members = []
    for number in range(columns):
        name = f"task{number}"
        known = router.members[number % FITTED]
        members.append(Member(f"{name}@1", known.digest, name, known.kind, number, known.reads))
    return replace(
        router,
        members=tuple(members),
        gate=LayeredGate((Layer(weight, layer.bias.repeat(repeat)[:columns]),)),
        unknown=replace(
            model,
            means=model.means.repeat(repeat, 1)[:columns] * noise.unsqueeze(1),
            sure=model.sure.repeat(1, repeat)[:, :columns],
        ),
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experts", type=int, nargs="*", default=(12, 1_000, 10_000))
    parser.add_argument("--calls", type=int, default=40)
    options = parser.parse_args(argv)
    describe(0)
    first = fitted()
    routers = {
        count: Router.from_bytes(widened(first, count).to_bytes(), "widened")
        for count in options.experts
    }
    features = torch.randn(max(BATCHES), WIDTH, generator=torch.Generator().manual_seed(2)).half()
    spent: dict[tuple[int, int], list[float]] = {}
    for call in range(options.calls + 3):
        for count, router in routers.items():
            for rows in BATCHES:
                begun = time.perf_counter()
                choice = router.route(features[:rows], ("single",) * rows)
                sure = torch.full((rows,), 100, dtype=torch.int16)
                router.judge(choice.strangeness, choice.index, [20] * rows, sure)
                if call >= 3:
                    spent.setdefault((count, rows), []).append(time.perf_counter() - begun)
    print("| experts | one row, ms | a row of 32, ms | router, MB | numbers that decide |")
    print("|---|---|---|---|---|")
    for count, router in routers.items():
        one, many = (statistics.median(spent[count, rows]) / rows * 1e3 for rows in BATCHES)
        size = len(router.to_bytes()) / 1e6
        print(f"| {count:,} | {one:.2f} | {many:.2f} | {size:.1f} | {router.parameter_count:,} |")


if __name__ == "__main__":
    main()
