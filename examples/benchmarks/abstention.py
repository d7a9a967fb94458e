"""How well unknown tasks are told from known ones, and how often known rows are taken for such.

Run it with: python examples/benchmarks/abstention.py ../shared/data --home DIR [--splits 5]

One expert is trained for every classification and multiple-choice task below the data; `--home`
keeps them, so a second run only measures. For each split a router is fitted over eight of them, and
`predict` answers validation rows of all tasks: known ones are those of the eight, unknown ones
those of the others. Beside `unknown_score` stand its parts (the router's, of that the blocks' mean,
the doubt and the gate's best score; the expert's), relative Mahalanobis distance over the whole
feature, cosine to the nearest training row, and the negative energy of the gate's scores. AUROC by
scikit-learn; FPR95 is the share of unknown rows accepted where 95% of known rows are. Every task
weighs the same.

Then false alarms: the share of known rows that are called unknown, whole and cut to 8, 16 and 32
tokens, all splits together; the limit is the stated level and two binomial errors.

Where no expert of a router has a say of what is unknown, rows are only routed, which gives the same
scores from the trunk alone. `--spans-anew` makes the spans of a bank's training rows again, for a
bank whose experts were added by an expertbank that made others.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from machine import describe
from sklearn.metrics import roc_auc_score, roc_curve
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank import Bank, TrainConfig, task_spec
from expertbank.data import TaskData, encode_rows, load_task
from expertbank.data.encode import encode_as_they_are
from expertbank.kinds import KINDS
from expertbank.records import Row
from expertbank.routing.config import RouterConfig
from expertbank.routing.feature_file import FeatureFile, Spans
from expertbank.routing.router import Router
from expertbank.routing.sureness import unasked
from expertbank.routing.unknown import LEVEL, Asked, UnknownModel
from expertbank.testing.routers import TaskFeatures, fit_router
from expertbank.workflows.answering.predict import Predictor
from expertbank.workflows.answering.prediction import Prediction
from expertbank.workflows.growing.spans import short_spans

SCORES = (
    "`predict`: router and expert",
    "the router's part",
    "of it: blocks",
    "of it: doubt",
    "of it: best score",
    "the expert's doubt",
    "relative Mahalanobis, one block",
    "nearest training row, cosine",
    "-energy",
)
CUTS = (8, 16, 32)
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """A task with its expert: what a router is fitted on, and rows to report on."""

    name: str
    fitted: TaskFeatures
    features: FeatureFile
    rows: Sequence[Row]


def grown(options: argparse.Namespace, bank: Bank) -> list[Known]:
    """An expert for every task, trained once."""
    bank.init(max_length=options.max_length)
    names = sorted(path.name for path in options.data.iterdir() if path.is_dir())
    specs = [task_spec(name) for name in options.tasks or names]
    config = TrainConfig(
        limit=options.rows, eval_limit=options.rows, epochs=options.epochs, seed=options.seed
    )
    found = []
    for spec in specs:
        if spec.kind == "regression":
            continue
        folder = options.data / spec.name
        if spec.name not in {expert.task for expert in bank.experts()}:
            begun = time.monotonic()
            added = bank.add(spec.name, data=folder, train=config)
            print(f"{spec.name}: {added.metrics['accuracy']:.3f} with the task told, "
                  f"{time.monotonic() - begun:.0f} s", flush=True)  # fmt: skip
        (expert,) = [one for one in bank.experts() if one.task == spec.name]
        stored = bank._workspace.store.get(bank.registry.feature_set(expert.id).digest)
        file = FeatureFile.from_bytes(stored, expert.id)
        fitted = TaskFeatures(
            *(expert.id, expert.digest, spec.name, spec.kind, None),
            *(file.train, file.train_shapes, file.train_tokens, file.spans, file.sureness),
        )
        limits = {"limit": options.rows, "eval_limit": options.rows, "seed": options.seed}
        data = load_task(spec, str(folder), **limits)
        if options.spans_anew:
            fitted = replace(fitted, spans=spans_of(bank, data, file))
        found.append(Known(spec.name, fitted, file, data.validation))
    return found


def spans_of(bank: Bank, data: TaskData, file: FeatureFile) -> Spans:
    """Spans of the training rows as `add` makes them now, of which no expert was asked."""
    model, kind = bank._workspace.model, KINDS.get(data.spec.kind)
    tokenizer, length = model.backbone.tokenizer, model.spec.max_length
    encoded = encode_rows(data.train, tokenizer, kind, data.labels, length)
    rows = [(row, one.shape) for row, one in zip(encoded, data.train, strict=True)]
    width = file.train.shape[1]
    return short_spans(model, rows, width, 0, lambda asked: unasked(len(asked)))


def asked_of(router: Router, file: FeatureFile) -> Asked:
    """What the router knows of a task's evaluation rows when it has chosen."""
    values = router.grid.values(file.evaluation)
    allowed = router.candidates(file.evaluation_shapes)
    scores = router.gate.scores(values).masked_fill(~allowed, float("-inf"))
    top, columns = torch.softmax(scores / router.temperature, 1).max(1)
    return Asked(values, scores, top, columns)


def scored(
    router: Router,
    whole: Router,
    near: torch.Tensor,
    file: FeatureFile,
    answers: Sequence[Prediction],
) -> dict[str, Scores]:
    """All scores of a task's rows, higher for more unknown.

    Args:
        router: as it is fitted.
        whole: the same with the feature as one block.
        near: training rows of the known tasks, of length one.
        file: features of the rows.
        answers: what `predict` answered to them.
    """
    asked, model = asked_of(router, file), router.unknown
    assert isinstance(model, UnknownModel)
    signs = (model.of(asked) - model.place[0]) / model.place[1]
    strange = model.strangeness(asked)
    distance = whole.unknown.of(asked_of(whole, file))[:, 0]
    likest = [
        (F.normalize(part, dim=1) @ near.T).amax(1) for part in torch.split(asked.values, 256)
    ]
    # Of the score, twice the mean, what the router did not say.
    doubt = 2 * np.array([answer.unknown_score for answer in answers]) - strange.numpy()
    found = (
        torch.tensor([answer.unknown_score for answer in answers]),
        strange,
        signs[:, :-2].mean(1),
        signs[:, -2],
        signs[:, -1],
        torch.from_numpy(doubt),
        distance,
        -torch.cat(likest),
        -torch.logsumexp(asked.scores / router.temperature, 1),
    )
    return {name: values.numpy() for name, values in zip(SCORES, found, strict=True)}


def answered(
    predictor: Predictor, rows: Sequence[Row], tokens: int | None = None
) -> list[Prediction]:
    """What `predict` says of rows, read whole or cut to so many tokens."""
    asked = predictor.questions(list(rows), predictor.decision())
    model = predictor.router.unknown
    silent = isinstance(model, UnknownModel) and not bool(model.telling.any())
    asked = [replace(one, only_routed=silent) for one in asked]
    if tokens is not None:
        tokenizer = predictor.model.backbone.tokenizer
        cut = encode_as_they_are(rows, tokenizer, None, (), tokens)
        asked = [replace(one, encoded=short) for one, short in zip(asked, cut, strict=True)]
    return predictor.answer(asked)


def compared(known: Sequence[Scores], unknown: Sequence[Scores]) -> tuple[float, float]:
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one sub-folder a task")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=800, help="rows a task, each of train and val")
    parser.add_argument("--cut-rows", type=int, default=200, help="of these so many are cut")
    parser.add_argument("--tasks", nargs="*", help="only these tasks")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--known", type=int, default=8)
    parser.add_argument("--cuts", type=int, nargs="*", default=CUTS, help="tokens of cut rows")
    parser.add_argument("--spans-anew", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    describe(options.seed)
    with Bank.open(options.home) as bank:
        measured(options, bank)


def measured(options: argparse.Namespace, bank: Bank) -> None:
    """All splits, and the tables."""
    tasks = grown(options, bank)
    bank.retrain_router()
    whole_bank, spec = bank.predictor(), bank._workspace.spec
    blocks = len(spec.states) * len(spec.poolings)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in SCORES}
    caught: list[float] = []
    alarms: dict[object, list[tuple[str, int, int]]] = {}
    for split in range(options.splits):
        order = random.Random(f"{options.seed} {split}").sample(tasks, len(tasks))
        known, unknown = order[: options.known], order[options.known :]
        fitted = [task.fitted for task in known]
        router = fit_router(fitted, RouterConfig(), spec.digest, blocks=blocks)
        whole = fit_router(fitted, RouterConfig(), spec.digest, blocks=1)
        predictor = Predictor(whole_bank.model, whole_bank.experts, router)
        near = F.normalize(torch.cat([router.grid.values(one.train) for one in fitted]), dim=1)
        answers = {task.name: answered(predictor, task.rows) for task in order
                   if _readable(task, known)}  # fmt: skip
        found = [
            [
                scored(router, whole, near, task.features, answers[task.name])
                for task in part
                if task.name in answers
            ]
            for part in (known, unknown)
        ]
        for name in SCORES:
            figures[name].append(compared(*[[one[name] for one in part] for part in found]))
        flags = [[a.unknown for a in answers[t.name]] for t in unknown if t.name in answers]
        caught.append(float(np.mean([np.mean(own) for own in flags])))
        for task in known:
            cut = {n: answered(predictor, task.rows[: options.cut_rows], n) for n in options.cuts}
            for length, own in {"whole": answers[task.name], **cut}.items():
                wrong = sum(bool(answer.unknown) for answer in own)
                alarms.setdefault(length, []).append((task.name, wrong, len(own)))
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


def _readable(task: Known, known: Sequence[Known]) -> bool:
    """Whether any of the known tasks could answer the task's rows."""
    shapes = {shape for one in known for shape in KINDS.get(one.fitted.kind).shapes}
    return task.rows[0].shape in shapes


if __name__ == "__main__":
    main()
