"""How the training defaults are chosen: one setting varied at a time, judged on training rows.

Run it with: python examples/benchmarks/defaults.py ../shared/data [--rows 600] [--out runs.jsonl]

No validation row is read. Every task's training rows are cut three ways: rows to train on, rows
that choose the checkpoint (as in ``add``), and rows that judge the setting. Settings differ from
the first one in a single value; each is trained on the same rows with the same seeds, in turn.
Finished runs are kept in ``--out`` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from machine import describe

from expertbank import AdapterConfig, TrainConfig, task_spec
from expertbank.adapters.pool import ExpertPool
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.data import TaskData, encode_rows, hold_out_for_selection, load_task
from expertbank.kinds import KINDS
from expertbank.models.routed import RoutedModel
from expertbank.records import Row
from expertbank.training.expert import ExpertJob, train_expert
from expertbank.workflows.measure import answers

TASKS = ("sst2", "cola", "mrpc", "rte", "qnli", "mnli")


@dataclass(frozen=True, slots=True)
class Setting:
    """Values that a user may leave to the defaults."""

    alpha: float = 4.0
    lr: float = 5e-3
    head_lr: float = 1e-3
    batch_size: int = 16

    @property
    def name(self) -> str:
        """What differs from the first setting."""
        first = asdict(Setting())
        changed = {name: value for name, value in asdict(self).items() if value != first[name]}
        return ", ".join(f"{name} {value:g}" for name, value in changed.items()) or "reference"


SETTINGS = (
    Setting(),
    Setting(alpha=1.0),
    Setting(alpha=2.0),
    Setting(alpha=8.0),
    Setting(alpha=16.0),
    Setting(lr=2e-3),
    Setting(lr=1e-2),
    Setting(head_lr=3e-4),
    Setting(head_lr=3e-3),
    Setting(batch_size=8),
    Setting(batch_size=32),
)


def main() -> None:
    options = arguments()
    describe(options.seeds[0])
    out = Path(options.out)
    done = {_key(run): run for run in map(json.loads, _lines(out))}
    backbone = load_backbone(dtype=options.dtype)
    spec = backbone.default_feature_spec(max_length=options.max_length, dtype=options.dtype)
    for seed in options.seeds:
        for task in options.tasks:
            data = load_task(task_spec(task), str(options.data / task), eval_limit=1)
            judge, rest = data.train[: options.judge], data.train[options.judge :]
            for setting in SETTINGS:
                if (task, seed, setting.name) in done:
                    continue
                job = _job(
                    data, rest[: options.rows], setting, seed, options.epochs, spec, backbone
                )
                found = _judge(job, data, judge, backbone)
                run = {"task": task, "seed": seed, "setting": setting.name, "accuracy": found}
                done[_key(run)] = run
                with out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(run) + "\n")
                print(f"{task}, seed {seed}, {setting.name}: {found:.3f}", flush=True)
    _table(list(done.values()), options.tasks)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=600, help="training rows a task")
    parser.add_argument("--judge", type=int, default=600, help="rows that judge a setting")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--out", default="defaults.jsonl")
    return parser.parse_args()


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _key(run: dict[str, Any]) -> tuple[str, int, str]:
    return run["task"], run["seed"], run["setting"]


def _job(
    data: TaskData,
    rows: tuple[Row, ...],
    setting: Setting,
    seed: int,
    epochs: int,
    spec: Any,
    backbone: Backbone,
) -> ExpertJob:
    config = TrainConfig(
        epochs=epochs,
        lr=setting.lr,
        head_lr=setting.head_lr,
        batch_size=setting.batch_size,
        seed=seed,
    )
    share = config.selection_share_of(len(rows))
    fit, selection = hold_out_for_selection(rows, share, seed, KINDS.get(data.spec.kind).classes)

    def encoded(part: tuple[Row, ...]) -> tuple[Any, ...]:
        kind, labels = KINDS.get(data.spec.kind), data.labels
        return tuple(encode_rows(part, backbone.tokenizer, kind, labels, spec.max_length))

    return ExpertJob(
        data.spec.name,
        data.spec.kind,
        data.labels,
        encoded(tuple(fit)),
        encoded(tuple(selection)),
        AdapterConfig(alpha=setting.alpha),
        config,
        spec,
    )


def _judge(job: ExpertJob, data: TaskData, rows: tuple[Row, ...], backbone: Backbone) -> float:
    """Accuracy of a freshly trained expert on rows that neither trained nor chose it."""
    trained = train_expert(job, backbone)
    dtype = getattr(torch, job.spec.dtype)
    expert = trained.file.collapse("candidate", backbone.device, dtype)
    model = RoutedModel(backbone, job.spec, ExpertPool.holding({"candidate": expert}))
    kind = KINDS.get(job.kind)
    encoded = encode_rows(rows, backbone.tokenizer, kind, job.labels, job.spec.max_length)
    found = answers(model, encoded, "candidate")
    return float(kind.metrics(found.predictions(kind, [row.digest for row in rows]))["accuracy"])


def _table(runs: list[dict[str, Any]], tasks: list[str]) -> None:
    """Mean accuracy by setting, and its difference from the reference over task and seed."""
    by_setting: dict[str, dict[tuple[str, int], float]] = {}
    for run in runs:
        by_setting.setdefault(run["setting"], {})[run["task"], run["seed"]] = run["accuracy"]
    reference = by_setting["reference"]
    print(f"\n| setting | {' | '.join(tasks)} | mean | difference | standard error |")
    print("|---" * (len(tasks) + 4) + "|")
    for name, found in by_setting.items():
        shared = sorted(found.keys() & reference.keys())
        gaps = [found[key] - reference[key] for key in shared]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else 0.0
        means = [
            statistics.mean([value for (task, _), value in found.items() if task == wanted])
            for wanted in tasks
        ]
        cells = " | ".join(f"{value:.3f}" for value in means)
        print(
            f"| {name} | {cells} | {statistics.mean(means):.3f} "
            f"| {statistics.mean(gaps):+.4f} | {error:.4f} |"
        )


if __name__ == "__main__":
    main()
