"""Every data set of a folder through the whole job: add, route, report, export, predict.

Run it with: python examples/benchmarks/every_task.py ../shared/data [--limit 300]

Each sub-folder holds train and validation files of a catalog task. Prints one line a task and
then the router's accuracy, what the report says and whether bank and bundle agree.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from machine import describe

from expertbank import Bank, TrainConfig, load_bundle, task_spec
from expertbank.data import load_task


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--eval-limit", type=int, default=300)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    describe(options.seed)
    train = TrainConfig(
        limit=options.limit,
        eval_limit=options.eval_limit,
        epochs=options.epochs,
        seed=options.seed,
    )
    names = sorted(path.name for path in options.data.iterdir() if path.is_dir())
    rows = []
    with tempfile.TemporaryDirectory() as folder, Bank.open(Path(folder) / "bank") as bank:
        bank.init(max_length=options.max_length)
        print("| task | kind | rows | quality | majority | seconds |")
        print("|---|---|---|---|---|---|")
        for name in names:
            added = bank.add(name, data=options.data / name, train=train)
            metrics = added.metrics
            quality = metrics["accuracy"]
            shown = f"{quality:.3f}" if quality is not None else f"r = {metrics['pearson']:.3f}"
            majority = "-" if metrics["majority"] is None else f"{metrics['majority']:.3f}"
            print(
                f"| {name} | {added.expert.kind} | {added.train['examples']} | {shown} "
                f"| {majority} | {added.train['seconds']:.0f} |",
                flush=True,
            )
            data = load_task(task_spec(name), str(options.data / name), limit=8, eval_limit=4)
            rows += data.validation
        router = bank.retrain_router()
        report = bank.forgetting_report().to_dict()
        print(f"\nrouting accuracy, mean over {len(names)} tasks: {router.metrics['accuracy']:.3f}")
        for task, share in router.metrics["per_task"].items():
            print(f"  {task}: {share:.3f}")
        print(f"expert weights unchanged: {report['weights_unchanged']}")
        print(f"routing regret: {report['routing_regret']:.3f}")
        bank.export(Path(folder) / "bundle")
        from_bank = bank.predict(rows)
        from_bundle = list(load_bundle(Path(folder) / "bundle").predict(rows))
        print(f"bank and bundle give the same {len(rows)} answers: {from_bank == from_bundle}")


if __name__ == "__main__":
    main()
