"""How well unknown tasks are told from known ones, and how often known rows are taken for such.

Run it with: python examples/benchmarks/abstention.py ../shared/data [--cache DIR] [--splits 5]

For each split a router is fitted on eight tasks. Known rows are their validation rows; unknown
rows are those of the other tasks. Scores: what `predict` reports; of its signs the blocks' mean,
the doubt and the gate's best score, each alone; relative Mahalanobis distance over the whole
feature; cosine to the nearest training row; and the negative energy of the gate's scores. AUROC by
scikit-learn; FPR95 is the share of unknown rows accepted where 95% of known rows are. Every task
weighs the same.

Then false alarms: the share of known rows that are called unknown, whole and cut to 8, 16 and 32
tokens, all splits together; the limit is the stated level and two binomial errors.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from machine import describe
from routing_features import RealTask, arguments, cut_rows, real_tasks
from sklearn.metrics import roc_auc_score, roc_curve
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.routing.config import RouterConfig
from expertbank.routing.fit import fit_router
from expertbank.routing.router import Router
from expertbank.routing.unknown import LEVEL, Asked, UnknownModel

SCORES = (
    "`predict`: mean of all signs",
    "blocks alone",
    "doubt alone",
    "best score alone",
    "relative Mahalanobis, one block",
    "nearest training row, cosine",
    "-energy",
)
CUTS = (8, 16, 32)
CUT_ROWS = 400


def asked_of(router: Router, task: RealTask) -> Asked:
    """What the router knows of a task's rows when it has chosen."""
    values = router.grid.values(task.evaluation)
    allowed = router.candidates(task.evaluation_shapes)
    scores = router.gate.scores(values).masked_fill(~allowed, float("-inf"))
    top, columns = torch.softmax(scores / router.temperature, 1).max(1)
    return Asked(values, scores, top, columns)


def scored(
    router: Router, whole: Router, near: torch.Tensor, task: RealTask
) -> dict[str, np.ndarray]:
    """All scores of a task's rows, higher for more unknown.

    Args:
        router: as it is fitted.
        whole: the same with the feature as one block.
        near: training rows of the known tasks, of length one.
        task: whose rows.
    """
    asked, model = asked_of(router, task), router.unknown
    assert isinstance(model, UnknownModel)
    signs = (model.of(asked) - model.place[0]) / model.place[1]
    logits = asked.scores / router.temperature
    distance = whole.unknown.of(asked_of(whole, task))[:, 0]
    likest = [
        (F.normalize(part, dim=1) @ near.T).amax(1) for part in torch.split(asked.values, 256)
    ]
    found = (
        model.score(asked),
        signs[:, :-2].mean(1),
        signs[:, -2],
        signs[:, -1],
        distance,
        -torch.cat(likest),
        -torch.logsumexp(logits, 1),
    )
    return {name: values.numpy() for name, values in zip(SCORES, found, strict=True)}


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
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--known", type=int, default=8)
    parser.add_argument("--cuts", type=int, nargs="*", default=CUTS, help="tokens of cut rows")
    options = parser.parse_args(argv)
    describe(options.seed)
    tasks = real_tasks(options)
    cuts = {
        tokens: cut_rows(options, tokens, min(options.rows, CUT_ROWS)) for tokens in options.cuts
    }
    blocks = len(options.states) * len(options.poolings)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in SCORES}
    caught: list[float] = []
    alarms: dict[object, list[tuple[str, int, int]]] = {}
    for split in range(options.splits):
        order = random.Random(f"{options.seed} {split}").sample(tasks, len(tasks))
        known, unknown = order[: options.known], order[options.known :]
        fitted = [task.fitted_on(tuning=False) for task in known]
        router = fit_router(fitted, RouterConfig(), "0" * 64, blocks=blocks)
        whole = fit_router(fitted, RouterConfig(), "0" * 64, blocks=1)
        near = F.normalize(torch.cat([router.grid.values(one.train) for one in fitted]), dim=1)
        found = [[scored(router, whole, near, task) for task in part] for part in (known, unknown)]
        for name in SCORES:
            figures[name].append(compared(*[[one[name] for one in part] for part in found]))
        caught.append(np.mean([flagged(router, task).mean() for task in unknown]))
        for task in known:
            rows = flagged(router, task)
            alarms.setdefault("whole", []).append((task.name, int(rows.sum()), len(rows)))
            for tokens in options.cuts:
                rows = flagged(router, cuts[tokens][task.name], tokens)
                alarms.setdefault(tokens, []).append((task.name, int(rows.sum()), len(rows)))
        names = ", ".join(sorted(task.name for task in unknown))
        auroc, fpr95 = figures[SCORES[0]][-1]
        print(f"split {split}: unknown {names}: AUROC {auroc:.3f}, FPR95 {fpr95:.3f}", flush=True)
    others = len(tasks) - options.known
    print(f"\n{options.known} tasks known, {others} unknown, {RouterConfig().kind} gate\n")
    print("| score | AUROC | FPR95 |\n|---|---|---|")
    for name, values in figures.items():
        (auroc, fpr95), (spread, _) = np.mean(values, 0), np.std(values, 0)
        print(f"| {name} | {auroc:.3f} ± {spread:.3f} | {fpr95:.3f} |")
    print(f"\ncalled unknown: {np.mean(caught):.3f} of unknown rows; of known ones:\n")
    print(
        "| rows cut to | rows | called unknown | limit | by task, highest |\n|---|---|---|---|---|"
    )
    for tokens, parts in alarms.items():
        rows = sum(count for _, _, count in parts)
        share = sum(count for _, count, _ in parts) / rows
        limit = LEVEL + 2 * (LEVEL * (1 - LEVEL) / rows) ** 0.5
        by_task: dict[str, list[float]] = {}
        for name, count, size in parts:
            by_task.setdefault(name, []).append(count / size)
        worst = sorted(((np.mean(own), name) for name, own in by_task.items()), reverse=True)[:3]
        told = ", ".join(f"{name} {mean:.3f}" for mean, name in worst)
        print(f"| {tokens} | {rows:,} | {share:.3f} | {limit:.3f} | {told} |")


def flagged(router: Router, task: RealTask, tokens: int | None = None) -> np.ndarray:
    """Which of a task's validation rows are called unknown."""
    lengths = None if tokens is None else [tokens] * len(task.evaluation)
    return router.route(task.evaluation, task.evaluation_shapes, lengths).unknown.numpy()


if __name__ == "__main__":
    main()
