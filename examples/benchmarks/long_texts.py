"""Long texts: does memory grow with the text alone?

Pairs of two long texts go through ``tasks check``, ``add`` (one epoch) and ``predict --file``, each
in a process of its own, beside as many pairs of short texts, and of texts that just fill the
maximum length: what is longer is cut, so the model has no more to do. Told is the peak resident
memory of the process, and what it is of that of the other rows plus the text.

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
SHORT, FULL = 60, 1_000
"""Bytes of a short text, and of one of a pair that fills 256 tokens."""
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
            # Where texts fill the length, all do: which rows are trained on the hash decides.
            length = size if number < long_rows or size == FULL else SHORT
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
    print("rows, bytes of each text, command: MiB short, full, long; long / short, / full")
    for rows, size in CASES:
        with tempfile.TemporaryDirectory() as root:
            peaks: dict[str, dict[str, float]] = {}
            for name, length in (("short", SHORT), ("full", FULL), ("long", size)):
                file, home = Path(root, f"{name}.jsonl"), str(Path(root, name))
                text = write(file, rows, length, random.Random(options.seed))
                for command in (
                    ("tasks", "check", str(file)),
                    ("add", "--task", "t", "--data", str(file), "--epochs", "1"),
                    ("predict", "--task", "t", "--file", str(file)),
                ):
                    taken = peaks.setdefault(" ".join(command[:1]), {})
                    taken[name] = peak("--home", home, *command) / 2**20
            for command, taken in peaks.items():
                short, full, long = taken["short"], taken["full"], taken["long"]
                more = text / 2**20
                print(
                    f"{rows:>4}  {size:>9,}  {command:8} {short:>6.0f} {full:>6.0f} {long:>6.0f}  "
                    f"{long / (short + more):.2f}  {long / (full + more):.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
