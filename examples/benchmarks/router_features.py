"""Which trunk states and poolings route best: states x poolings x gate, one table.

Run it with: python examples/benchmarks/router_features.py ../shared/data [--cache DIR]

Mean of per-task accuracies over the classification and multiple-choice tasks, candidates masked
by shape of row. The choice is made on `held-out`, every fifth training row, which no fit of that
column saw; `validation` is only reported, after a fit on the same four fifths. A spec can read
the states up to its route layer, so those with state 3 need route layer 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from machine import describe
from routing_features import RealTask, arguments, real_tasks

from expertbank.routing.config import RouterConfig
from expertbank.routing.gates import GATES
from expertbank.routing.router import Router
from expertbank.testing.routers import fit_router

CHOICES: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...] = (
    ((0,), ("mean",)),
    ((1,), ("mean",)),
    ((2,), ("mean",)),
    ((2,), ("mean", "first")),
    ((0, 1, 2), ("mean",)),
    ((0, 1, 2), ("first",)),
    ((0, 1, 2), ("mean", "first")),
    ((0, 1, 2), ("mean", "last")),
    ((3,), ("mean", "first")),
    ((0, 1, 2, 3), ("mean",)),
    ((0, 1, 2, 3), ("mean", "first")),
)


def accuracy(router: Router, tasks: Sequence[RealTask], *, tuning: bool) -> float:
    """Mean over tasks of the share of rows that go to their own task."""
    shares = []
    for task in tasks:
        index = router.route(*task.tested_on(tuning=tuning)).index
        shares.append(float((index == router.column_of(task.name)).double().mean()))
    return sum(shares) / len(shares)


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", default=GATES.names(), choices=GATES.names())
    parser.add_argument("--first", type=int, help="only the first so many choices")
    options = parser.parse_args(argv)
    describe(options.seed)
    print("| states | poolings | width | gate | held-out | validation |")
    print("|---|---|---|---|---|---|")
    for states, poolings in CHOICES[: options.first]:
        tasks = real_tasks(options, states, poolings)
        for kind in options.kinds:
            fitted = [task.fitted_on(tuning=True) for task in tasks]
            router = fit_router(fitted, RouterConfig.of_text(kind, seed=options.seed), "0" * 64)
            held, reported = (accuracy(router, tasks, tuning=t) for t in (True, False))
            print(
                f"| {', '.join(map(str, states))} | {', '.join(poolings)} "
                f"| {router.dimension} | {kind} | {held:.4f} | {reported:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
