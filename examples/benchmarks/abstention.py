"""How well unknown tasks are told from known ones: eight tasks known, four unknown.

Run it with: python examples/benchmarks/abstention.py ../shared/data [--cache DIR] [--splits 10]

For each split a router is fitted on the known tasks alone. Known rows are their validation
rows; unknown rows are those of the other tasks. Scores: relative Mahalanobis distance (what
`predict` reports), the plain distance, one minus the largest probability, and the negative
energy of the gate's scores. AUROC by scikit-learn; FPR95 is the share of unknown rows accepted
where 95% of known rows are. Every task weighs the same. `flagged` is the share of known and of
unknown rows above the router's own threshold, which was set on held-out training rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from machine import describe
from routing_features import RealTask, arguments, real_tasks
from sklearn.metrics import roc_auc_score, roc_curve

from expertbank.routing.config import RouterConfig
from expertbank.routing.fit import fit_router
from expertbank.routing.router import Router

SCORES = ("relative Mahalanobis", "Mahalanobis", "1 - max softmax", "-energy")


def scored(router: Router, task: RealTask, *, tuning: bool) -> dict[str, np.ndarray]:
    """All scores of a task's rows, higher for more unknown; and which are flagged."""
    features, shapes = task.tested_on(tuning=tuning)
    assert router.unknown is not None
    allowed = router.candidates(shapes)
    choice = router.route(features, shapes)
    logits = router.scores(features).masked_fill(~allowed, float("-inf")) / router.temperature
    plain = replace(router.unknown, relative=False)
    return {
        SCORES[0]: choice.unknown_score.numpy(),
        SCORES[1]: plain.score(features, allowed).numpy(),
        SCORES[2]: 1 - choice.confidence.numpy(),
        SCORES[3]: -torch.logsumexp(logits, 1).numpy(),
        "flagged": choice.unknown.double().numpy(),
    }


def compared(known: Sequence[np.ndarray], unknown: Sequence[np.ndarray]) -> tuple[float, float]:
    """AUROC and FPR95, every task weighing the same."""
    values = np.concatenate([*known, *unknown])
    truth = np.concatenate([np.zeros(sum(map(len, known))), np.ones(sum(map(len, unknown)))])
    weight = np.concatenate(
        [np.full(len(v), 1 / len(v) / len(part)) for part in (known, unknown) for v in part]
    )
    # roc_curve's positives are unknown rows: accepted at 95% known accepted is 1 - TPR there.
    false, true, _ = roc_curve(truth, values, sample_weight=weight, drop_intermediate=False)
    fpr95 = 1 - true[np.searchsorted(false, 0.05, side="right") - 1]
    return float(roc_auc_score(truth, values, sample_weight=weight)), float(fpr95)


def main(argv: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--known", type=int, default=8)
    parser.add_argument("--held-out", action="store_true", help="test on held-out train rows")
    options = parser.parse_args(argv)
    describe(options.seed)
    tasks = real_tasks(options)
    tuning = options.held_out
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in SCORES}
    flagged: list[tuple[float, float]] = []
    for split in range(options.splits):
        order = random.Random(f"{options.seed} {split}").sample(tasks, len(tasks))
        known, unknown = order[: options.known], order[options.known :]
        router = fit_router([t.fitted_on(tuning=tuning) for t in known], RouterConfig(), "0" * 64)
        found = [[scored(router, t, tuning=tuning) for t in part] for part in (known, unknown)]
        for name in SCORES:
            figures[name].append(compared(*[[one[name] for one in part] for part in found]))
        flagged.append(
            tuple(float(np.mean([one["flagged"].mean() for one in part])) for part in found)
        )
        names = ", ".join(sorted(task.name for task in unknown))
        auroc, fpr95 = figures[SCORES[0]][-1]
        print(f"split {split}: unknown {names}: AUROC {auroc:.3f}, FPR95 {fpr95:.3f}", flush=True)
    others = len(tasks) - options.known
    print(f"\n{options.known} tasks known, {others} unknown, {RouterConfig().kind} gate")
    print("| score | AUROC | FPR95 |")
    print("|---|---|---|")
    for name, values in figures.items():
        (auroc, fpr95), (spread, _) = np.mean(values, 0), np.std(values, 0)
        print(f"| {name} | {auroc:.3f} ± {spread:.3f} | {fpr95:.3f} |")
    own, strange = np.mean(flagged, 0)
    print(f"\nflagged by the threshold: {own:.3f} of known rows, {strange:.3f} of unknown rows")


if __name__ == "__main__":
    main()
