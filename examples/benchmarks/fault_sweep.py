"""Every fault at every writing system call of every command, and what is left of the bank.

Run it with: python examples/benchmarks/fault_sweep.py [--sample N] [--only COMMAND…]

Needs Linux and strace. A tiny real backbone and banks are made once; each command is run under
strace to list the calls that change files, and then once more for every call and every fault:
killed there, interrupted there (Ctrl-C), the disk full or failing there, once or from there on.
After each, the bank is opened by another process, every file rehashed, all that was there or was
acknowledged looked for, and the command run again. It takes about twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from machine import describe

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))
import injecting
import stracing

FAULTS = {
    "kill": "SIGKILL",
    "interrupt": "SIGINT",
    "ENOSPC": "ENOSPC once",
    "EIO": "EIO once",
    "ENOSPC lasting": "ENOSPC from there on",
    "EIO lasting": "EIO from there on",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="try so many, drawn evenly over the commands")
    parser.add_argument("--only", nargs="*", default=[], help="names of commands to break")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    refused = stracing.available()
    if refused:
        print(refused)
        return 1
    os.environ.update(stracing.ENVIRONMENT)
    describe(options.seed)
    counts: Counter[tuple[str, str]] = Counter()
    outcomes: dict[tuple[str, str], Counter[str]] = {}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        bench = injecting.Bench(Path(folder))
        bench.prepare()
        started = time.monotonic()
        for judged in injecting.sweep(
            bench, sample=options.sample, seed=options.seed, only=options.only
        ):
            key = judged.command, judged.fault.kind
            counts[key] += 1
            outcomes.setdefault(key, Counter())[judged.outcome] += 1
            if judged.wrong:
                wrong.append(judged)
                print(f"WRONG: {judged}", file=sys.stderr, flush=True)
    print("| command | fault | injections | wrong | how they ended |")
    print("|---|---|---|---|---|")
    for (command, kind), count in counts.items():
        bad = sum((one.command, one.fault.kind) == (command, kind) for one in wrong)
        how = ", ".join(f"{many} {name}" for name, many in outcomes[command, kind].most_common())
        print(f"| {command} | {FAULTS[kind]} | {count} | {bad} | {how} |")
    seconds = time.monotonic() - started
    print(f"\n{counts.total()} injections, {len(wrong)} wrong, {seconds / 60:.1f} minutes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
