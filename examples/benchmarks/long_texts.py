"""Long texts: does memory grow with the text alone?

Pairs of two long texts go through ``tasks check``, ``add`` (one epoch) and ``predict --file``, each
in a process of its own, beside as many pairs of short texts. Told is the peak resident memory of
the process, and by how much it exceeds that of the short rows plus the text.

    python examples/benchmarks/long_texts.py [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import describe

CASES = ((500, 10_000), (1, 100_000), (1, 1_000_000))
"""Long rows and the bytes of each of their two texts."""
FILL = 40
"""Short rows that stand beside them, so that there is something to train on."""
WORDS = ["river", "bank", "rain", "wet", "nobody", "came", "look", "after"]


def write(path: Path, long_rows: int, size: int, chance: random.Random) -> int:
    """Rows with a label; returns the bytes of the texts."""

    def text(length: int) -> str:
        words: list[str] = []
        while length > 0:
            words.append(chance.choice(WORDS) + str(chance.randrange(100)))
            length -= len(words[-1]) + 1
        return " ".join(words)

    total = 0
    with path.open("w") as file:
        for number in range(long_rows + FILL):
            length = size if number < long_rows else 60
            row = {"text": text(length), "text_pair": text(length), "label": "ab"[number % 2]}
            total += len(row["text"]) + len(row["text_pair"])
            file.write(json.dumps(row) + "\n")
    return total


def peak(*words: str) -> int:
    """Bytes that a command took at most."""
    child = subprocess.Popen(
        [sys.executable, "-m", "expertbank_cli.main", "--quiet", "--json", *words],
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, words
    return usage.ru_maxrss * 1024


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    describe(options.seed)
    print(f"{'rows':>5} {'bytes':>9} {'command':12} {'short':>9} {'text':>8} {'long':>9}  ratio")
    for rows, size in CASES:
        with tempfile.TemporaryDirectory() as root:
            short, long = Path(root, "short.jsonl"), Path(root, "long.jsonl")
            write(short, rows, 60, random.Random(options.seed))
            text = write(long, rows, size, random.Random(options.seed))

            def commands(file: Path, home: str) -> dict[str, tuple[str, ...]]:
                bank = ("--home", str(Path(root, home)))
                return {
                    "tasks check": (*bank, "tasks", "check", str(file)),
                    "add": (*bank, "add", "--task", "t", "--data", str(file), "--epochs", "1"),
                    "predict": (*bank, "predict", "--task", "t", "--file", str(file)),
                }

            one, other = commands(short, "one"), commands(long, "other")
            for name in one:
                base, more = peak(*one[name]), peak(*other[name])
                mib = [value / 2**20 for value in (base, text, more)]
                print(
                    f"{rows:>5} {size:>9,} {name:12} {mib[0]:>5.0f} MiB {mib[1]:>4.1f} MiB "
                    f"{mib[2]:>5.0f} MiB  {more / (base + text):.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
