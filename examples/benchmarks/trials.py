"""What the benchmarks of accuracy share: files of finished runs, and experts that are judged."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expertbank import AdapterConfig, TrainConfig, task_spec
from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.backbone import Backbone
from expertbank.config import DEFAULT_BACKBONE, NO_ADAPTER, FeatureSpec
from expertbank.data import TaskData, encode_rows, hold_out_for_selection, load_task, take
from expertbank.evaluation.predictions import Predictions
from expertbank.kinds import KINDS
from expertbank.models.expert_file import ExpertFile
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow, Row
from expertbank.training.job import ExpertJob, settled
from expertbank.workflows.measure import answers

PATIENCE_OF = "score or loss"
"""What ends training, for the conditions of a run; runs of before, without it, heard the score."""

Key = tuple[str, int, str]
"""Task, seed, and what was tried."""


def command_line(doc: str, name: str, tasks: Sequence[str]) -> argparse.ArgumentParser:
    """What every benchmark of small experts over seeds takes.

    Args:
        doc: the script's docstring.
        name: of its file of finished runs in ``results``.
        tasks: those of default.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--rows", type=int, default=720, help="rows a task to train and select on")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=list(tasks))
    out = Path(__file__).parent / "results" / f"{name}.jsonl"
    parser.add_argument("--out", type=Path, default=out)
    return parser


class Runs:
    """The finished runs of one file under the same conditions; a line each.

    Args:
        path: the file; made with the first run.
        conditions: what decides the figures besides a run's key.
    """

    def __init__(self, path: Path, conditions: dict[str, Any]) -> None:
        self._path, self._conditions = path, conditions
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        # A run that was interrupted while it wrote leaves half a line, which is no run.
        found = [json.loads(line) for line in lines if line.endswith("}}")]
        self.by_key: dict[Key, dict[str, Any]] = {
            (run["task"], run["seed"], run["tried"]): run
            for run in found
            if run["conditions"] == conditions
        }

    def add(self, key: Key, facts: dict[str, Any]) -> None:
        """Keep one more run, in the file too."""
        run = {**dict(zip(("task", "seed", "tried"), key, strict=True)), **facts}
        self.by_key[key] = run
        self._path.parent.mkdir(parents=True, exist_ok=True)
        before = self._path.read_text(encoding="utf-8") if self._path.is_file() else ""
        with self._path.open("a", encoding="utf-8") as file:
            if before and not before.endswith("\n"):
                file.write("\n")
            file.write(json.dumps({**run, "conditions": self._conditions}) + "\n")


def judged_job(
    task: str,
    place: Path,
    backbone: Backbone,
    spec: FeatureSpec,
    adapter: AdapterConfig,
    train: TrainConfig,
    rows: int,
    judging: int,
) -> tuple[ExpertJob, list[EncodedRow]]:
    """A job on some training rows as ``add`` makes it, and other training rows to judge it.

    Linked rows and copies stand on one side only. Every seed draws its own.

    Args:
        task: its name in the catalog.
        place: where its data is.
        backbone: the frozen model.
        spec: the bank's.
        adapter: what is trained.
        train: how.
        rows: how many to train on and to choose the checkpoint by.
        judging: how many judge.
    """
    data = load_task(
        task_spec(task), str(place), limit=rows + judging, eval_limit=1, seed=train.seed
    )
    kind = KINDS.get(data.spec.kind)
    share = judging / len(data.train)
    rest, judges = hold_out_for_selection(data.train, share, train.seed + 2**32, kind.classes)
    own = train.selection_share_of(len(rest))
    fit, selection = hold_out_for_selection(rest, own, train.seed, kind.classes)

    job = _job(task, data, fit, selection, backbone, spec, adapter, train)
    return job, list(_encoded(judges, data, backbone, spec))


def added_job(
    task: str,
    place: Path,
    backbone: Backbone,
    spec: FeatureSpec,
    adapter: AdapterConfig,
    train: TrainConfig,
    judging: int,
) -> tuple[ExpertJob, list[EncodedRow]]:
    """A job as ``add`` makes it, and the same validation rows in the same order at every seed.

    For the arguments see ``judged_job``; ``train.limit`` is how many rows to train on.
    """
    data = load_task(
        task_spec(task), str(place), limit=train.limit, eval_limit=10**6, seed=train.seed
    )
    kind = KINDS.get(data.spec.kind)
    share = train.selection_share_of(len(data.train))
    fit, selection = hold_out_for_selection(data.train, share, train.seed, kind.classes)
    job = _job(task, data, fit, selection, backbone, spec, adapter, train)
    return job, list(_encoded(take(data.validation, judging, 0), data, backbone, spec))


def _job(
    task: str,
    data: TaskData,
    fit: Sequence[Row],
    selection: Sequence[Row],
    backbone: Backbone,
    spec: FeatureSpec,
    adapter: AdapterConfig,
    train: TrainConfig,
) -> ExpertJob:
    parts = (_encoded(part, data, backbone, spec) for part in (fit, selection))
    if adapter.kind != NO_ADAPTER:
        adapter, train = settled(adapter, train, spec, backbone, len(fit) + len(selection))
    return ExpertJob(task, data.spec.kind, tuple(data.labels), *parts, adapter, train, spec)


def _encoded(
    rows: Sequence[Row], data: TaskData, backbone: Backbone, spec: FeatureSpec
) -> tuple[EncodedRow, ...]:
    kind = KINDS.get(data.spec.kind)
    return tuple(encode_rows(rows, backbone.tokenizer, kind, data.labels, spec.max_length))


def right_answers(
    job: ExpertJob, file: ExpertFile, rows: Sequence[EncodedRow], backbone: Backbone
) -> list[int]:
    """For each row whether the expert answers it right, 1 or 0."""
    found = _answers(job, file, rows, backbone)
    return np.asarray(KINDS.get(job.kind).outcome(found).right).astype(int).tolist()


def accuracy(
    job: ExpertJob, file: ExpertFile, rows: Sequence[EncodedRow], backbone: Backbone
) -> float:
    """Share of rows that the expert answers right; of numbers Pearson's correlation with them."""
    found = _answers(job, file, rows, backbone)
    kind = KINDS.get(job.kind)
    if kind.answers_are_values:
        return float(kind.metrics(found)["pearson"])
    return float(np.asarray(kind.outcome(found).right).mean())


def _answers(
    job: ExpertJob, file: ExpertFile, rows: Sequence[EncodedRow], backbone: Backbone
) -> Predictions:
    expert = file.collapse("candidate", backbone.device, getattr(torch, job.spec.dtype))
    model = RoutedModel(backbone, job.spec, ExpertPool.holding({"candidate": expert}))
    found = answers(model, rows, "candidate")
    return found.predictions(KINDS.get(job.kind), [str(n) for n in range(len(rows))])


def table_row(first: str, cells: Sequence[object]) -> None:
    """Print one line of a Markdown table."""
    print(f"| {' | '.join(map(str, (first, *cells)))} |")
