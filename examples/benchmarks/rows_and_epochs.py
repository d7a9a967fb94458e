"""What more rows or epochs do for one task: accuracy on the validation rows, majority beside it.

Run it with: python examples/benchmarks/rows_and_epochs.py [--task boolq] [--max-length 192]

Every setting trains an expert in one fresh bank, in turn, in one process. Nothing is chosen by
the validation rows: the checkpoint is chosen on held-out training rows, and all settings are
printed.
"""

from __future__ import annotations

import argparse
import tempfile

from machine import describe

from expertbank import Bank, TrainConfig

SETTINGS = ((1000, 3), (2000, 3), (4000, 3), (9427, 3), (9427, 6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="boolq")
    parser.add_argument("--max-length", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs="*", help="rows:epochs, such as 2000:3")
    options = parser.parse_args()
    settings = [tuple(map(int, text.split(":"))) for text in options.settings or ()] or SETTINGS
    describe(options.seed)
    print("| rows | epochs | best epoch | accuracy | majority | p beats majority | minutes |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, Bank.open(folder) as bank:
        bank.init(max_length=options.max_length)
        for rows, epochs in settings:
            train = TrainConfig(limit=rows, epochs=epochs, seed=options.seed, eval_limit=4000)
            added = bank.add(options.task, train=train, new_version=True)
            metrics, facts = added.metrics, added.train
            print(
                f"| {rows:,} | {epochs} | {facts['best_epoch']} | {metrics['accuracy']:.3f} "
                f"(n = {metrics['n']:,}) | {metrics['majority']:.3f} "
                f"| {metrics['p_beats_majority']:.2g} | {facts['seconds'] / 60:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
