"""Twelve tasks one after another: what is forgotten, proved, and what one shared LoRA forgets.

Run it with: python examples/benchmarks/twelve_tasks.py ../shared/data --home DIR --out FILE.jsonl

Each sub-folder of the data holds train and validation files of a catalog task; regression tasks
are left out. Three parts, all resumable (what ``--home`` and ``--out`` hold already is not done
again; delete both to begin anew, and keep the same options for both):

1. Tasks are added in alphabetical order, the router retrained after each, and after each step
   ``forgetting-report --verify --sample`` runs rows of every task through the real model. The last
   report is written as a page.
2. The same experts in another order: a second bank takes them over, in the order reversed, from the
   first bank's registry and files, and retrains its router after each. The last routers of both
   orders must be equal to the bit, and so must ``ridge`` gates fitted in both. That training an
   expert does not depend on what the bank holds is shown by training the first and the last task
   once more, in a bank of their own: their digests must be equal too.
3. One LoRA (peft, r = 16) is trained on the same rows, task after task, in the first order, with a
   head per task, for the same number of epochs; after each task all tasks so far are measured with
   the task named. It is spared routing: its figures are the most it could reach.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from machine import describe
from shared_lora import LoraTask, SharedLora

from expertbank import Bank, TrainConfig, task_spec
from expertbank.data import hold_out_for_selection, load_task
from expertbank.evaluation.metrics import average_accuracy, backward_transfer, forgetting
from expertbank.kinds import KINDS
from expertbank.registry.registry import Registry
from expertbank.reports.html import forgetting_page
from expertbank.reports.markdown import forgetting_markdown
from expertbank.workflows.workspace import Workspace

Matrix = list[list[float | None]]


class Log:
    """Results as JSON lines; a finished step is found again by its key."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._found = {entry["key"]: entry for entry in map(json.loads, lines)}

    def find(self, key: str) -> dict[str, Any] | None:
        """The step's facts, if it is done."""
        return self._found.get(key)

    def write(self, key: str, **facts: Any) -> dict[str, Any]:
        """Keep the facts of a finished step."""
        entry = {"key": key, **facts}
        self._found[key] = entry
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        return entry


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--html", type=Path, help="default: report.html in --home")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--eval-rows", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--sample", type=int, default=16)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--lora-lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="*", help="only these")
    options = parser.parse_args()
    describe(options.seed)
    options.home.mkdir(parents=True, exist_ok=True)
    log, started = Log(options.out), time.monotonic()
    names = _tasks(options.data, options.tasks)
    config = TrainConfig(
        limit=options.rows,
        eval_limit=options.eval_rows,
        epochs=options.epochs,
        seed=options.seed,
    )
    first = one_by_one(options, names, config, log)
    other_order(options, names, config, log)
    lora = shared_lora(options, names, config, log)
    _table(first, lora)
    print(f"\nthis run took {(time.monotonic() - started) / 60:.1f} minutes")


def _tasks(data: Path, wanted: Sequence[str] | None) -> list[str]:
    there = [p.name for p in sorted(data.iterdir()) if (p / "train.parquet").exists()]
    return [
        name
        for name in there
        if task_spec(name).kind != "regression" and (not wanted or name in wanted)
    ]


def _init(bank: Bank, options: argparse.Namespace) -> None:
    bank.init(max_length=options.max_length, dtype=options.dtype)


def one_by_one(
    options: argparse.Namespace, names: Sequence[str], config: TrainConfig, log: Log
) -> dict[str, Any]:
    """Part 1: the last report's figures."""
    print("## Tasks added one by one\n")
    print("| task | accuracy, named | average, routed | backward transfer | forgetting "
          "| regret | verdict | rows run again | seconds |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    with Bank.open(options.home / "first") as bank:
        _init(bank, options)
        for place, name in enumerate(names):
            key = f"first {place} {name}"
            entry = log.find(key)
            if entry is None:
                begun = time.monotonic()
                if name not in {expert.task for expert in bank.experts()}:
                    bank.add(name, data=options.data / name, train=config)
                router = bank.retrain_router()
                report = bank.forgetting_report(verify=True, sample=options.sample)
                found = report.verification or {}
                entry = log.write(
                    key,
                    router=router.router.digest,
                    seconds=round(time.monotonic() - begun, 1),
                    rows=sum(line["rows"] for line in found.values()),
                    unverifiable=sum(line["unverifiable"] for line in found.values()),
                    report=report.to_dict(),
                )
            shown = entry["report"]
            (line,) = [task for task in shown["tasks"] if task["task"] == name]
            print(
                f"| {name} | {line['oracle']:.3f} | {_number(shown['average_accuracy'])} "
                f"| {_number(shown['backward_transfer'])} | {_number(shown['forgetting'])} "
                f"| {_number(shown['routing_regret'])} | {shown['verdict']['routed']} "
                f"| {entry['rows']} | {entry['seconds']:.0f} |",
                flush=True,
            )
        report = bank.forgetting_report(verify=True, sample=options.sample)
        made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        page = options.html or options.home / "report.html"
        page.write_text(forgetting_page(report, made_at=made), encoding="utf-8")
        begun = time.monotonic()
        bank.forgetting_report()
        print(f"\npage: {page}; without --verify the report took "
              f"{time.monotonic() - begun:.1f} s\n")  # fmt: skip
        print(forgetting_markdown(report))
        return report.to_dict()


def other_order(
    options: argparse.Namespace, names: Sequence[str], config: TrainConfig, log: Log
) -> None:
    """Part 2: the order reversed gives the same router; training again the same experts."""
    print("## The same tasks in another order\n")
    source = Workspace.open(options.home / "first")
    with Bank.open(options.home / "second") as bank:
        _init(bank, options)
        target = Workspace.open(options.home / "second")
        for place, name in enumerate(reversed(names)):
            key = f"second {place} {name}"
            if log.find(key) is None:
                if name not in {expert.task for expert in bank.experts()}:
                    take_over(source, target, name)
                router = bank.retrain_router()
                log.write(
                    key, router=router.router.digest, report=bank.forgetting_report().to_dict()
                )
        reports = [log.find(f"second {p} {n}") for p, n in enumerate(reversed(names))]
        last = log.find(f"first {len(names) - 1} {names[-1]}")
        ours, theirs = (entry["router"] for entry in (last, reports[-1]) if entry)
        shown = reports[-1]["report"] if reports[-1] else {}
        print(f"order: {' '.join(reversed(names))}")
        print(f"router digests, first and second order: {ours[:16]} {theirs[:16]}")
        print(f"equal to the bit: {ours == theirs}")
        with Bank.open(options.home / "first") as other:
            ridges = [
                b.retrain_router("ridge", activate=False).router.digest for b in (other, bank)
            ]
        print(f"ridge gates of both: {ridges[0][:16]} {ridges[1][:16]}, "
              f"equal to the bit: {ridges[0] == ridges[1]}")  # fmt: skip
        print(f"backward transfer in the second order: {_number(shown['backward_transfer'])}, "
              f"forgetting {_number(shown['forgetting'])}")  # fmt: skip
    with Bank.open(options.home / "again") as bank:
        _init(bank, options)
        known = {expert.task: expert.digest for expert in source.registry.experts()}
        for name in {names[0]: 0, names[-1]: 0}:
            if name not in {expert.task for expert in bank.experts()}:
                bank.add(name, data=options.data / name, train=config)
            (again,) = bank.experts(name)
            print(f"{name} trained again in a bank of its own: digest equal "
                  f"{again.digest == known[name]}")  # fmt: skip
    source.registry.close()
    target.registry.close()
    print()


def take_over(source: Workspace, target: Workspace, name: str) -> None:
    """Register an expert of one bank in another: same file, features, evidence and run."""
    registry: Registry = source.registry
    (expert,) = registry.experts(name)
    assert expert.run_id is not None
    features = registry.feature_set(expert.id)
    evaluations = registry.evaluations(expert.id, router_version="oracle")
    digests = {expert.digest, features.digest, *(e.artifact_digest for e in evaluations)}
    for digest in sorted(digests):
        target.store.put(source.store.get(digest))
    target.registry.commit_expert(
        registry.task(name),
        replace(registry.run(expert.run_id), id=None),
        replace(expert, run_id=None),
        [file for file in registry.artifacts() if file.digest in digests],
        features,
        [replace(evaluation, id=None) for evaluation in evaluations],
    )


def shared_lora(
    options: argparse.Namespace, names: Sequence[str], config: TrainConfig, log: Log
) -> Matrix:
    """Part 3: accuracy of the shared LoRA after each task on all tasks so far.

    Its state is not kept, so an interrupted part begins again.
    """
    print("## One shared LoRA, task after task\n")
    found = log.find("lora")
    if found is None:
        begun = time.monotonic()
        with Bank.open(options.home / "first", read_only=True) as bank:
            record = bank.backbone()
        assert record is not None
        model = SharedLora(
            record.reference, dtype=options.dtype, max_length=options.max_length, seed=options.seed
        )
        tasks, matrix = [], []
        for name in names:
            task = _lora_task(options.data / name, config)
            model.learn(
                task, epochs=options.epochs, lr=options.lora_lr, batch_size=config.batch_size
            )
            tasks.append(task)
            row = [model.accuracy(known) for known in tasks]
            matrix.append([*row, *([None] * (len(names) - len(row)))])
            print(f"after {name}: " + " ".join(f"{value:.3f}" for value in row), flush=True)
        found = log.write(
            "lora",
            matrix=matrix,
            adapter_params=model.adapter_params,
            seconds=round(time.monotonic() - begun, 1),
        )
    print(f"{found['adapter_params']:,} adapter parameters, {found['seconds']:.0f} s\n")
    matrix_found: Matrix = found["matrix"]
    return matrix_found


def _lora_task(folder: Path, config: TrainConfig) -> LoraTask:
    """The rows that ``add`` took: those to fit on, and those to report on."""
    data = load_task(
        task_spec(folder.name),
        str(folder),
        limit=config.limit,
        eval_limit=config.eval_limit,
        seed=config.seed,
    )
    share = config.selection_share_of(len(data.train))
    fit, _ = hold_out_for_selection(
        data.train, share, config.seed, KINDS.get(data.spec.kind).classes
    )
    return LoraTask(folder.name, data.spec.kind, data.labels, fit, data.validation)


def _table(first: dict[str, Any], lora: Matrix) -> None:
    print("## Side by side\n")
    print("| | bank, routed | bank, expert named | shared LoRA, task named |")
    print("|---|---|---|---|")
    named = [task["oracle"] for task in first["tasks"]]
    rows = (
        (
            "average accuracy at the end",
            first["average_accuracy"],
            sum(named) / len(named),
            average_accuracy(lora),
        ),
        ("backward transfer", first["backward_transfer"], 0.0, backward_transfer(lora)),
        ("forgetting", first["forgetting"], 0.0, forgetting(lora)),
    )
    for name, *figures in rows:
        print(f"| {name} | " + " | ".join(_number(figure) for figure in figures) + " |")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}" if value < 0 else f"{value:.3f}"


if __name__ == "__main__":
    main()
