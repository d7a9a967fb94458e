"""What one answer on the command line takes, beside the imports that nobody can do without.

Run it with: OMP_NUM_THREADS=1 python examples/benchmarks/start_up.py [--runs 5]

Makes a bank over the offline package's MiniLM with one expert and a bundle of it, then runs in
turn: an interpreter that only imports torch and what transformers needs for this model and its
tokenizer; `predict` from the bundle; `predict` from the bank, also with Python's own exit, which
looks for garbage among all that was imported; `list`. Each is a process of its own, with the files
warm; counted are processor seconds, which other work on the machine changes less, and wall seconds
beside them. Medians and their ratio to the imports. At the end: the packages whose
import took longest in one `predict` (python -X importtime), and the files that it read.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from machine import describe

AIM = 1.6
COMMAND = (sys.executable, "-m", "expertbank_cli.main")
IMPORTS = "import torch; from transformers import BertModel, PreTrainedTokenizerFast"
PLAIN_EXIT = "import gc; gc.freeze = lambda: None; from expertbank_cli.main import run; run()"
TEXT = "The striker scored twice as the champions won the cup final"
_IMPORTED = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*([\w.]+)")
_READ = """
import os, sys
kept = (".safetensors", ".json", ".txt", ".db", ".cache", ".yaml", ".model")
def told(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].endswith(kept):
        if os.path.isfile(arguments[0]):
            os.write(9, f"{os.path.getsize(arguments[0])} {arguments[0]}\\n".encode())
sys.addaudithook(told)
from expertbank_cli.main import run
run()
"""


def taken(words: Sequence[str]) -> tuple[float, float]:
    """Processor and wall seconds of a process that must succeed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - started
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, wall


def imported(words: Sequence[str]) -> list[tuple[str, float]]:
    """Packages by the seconds that their own modules took to import."""
    ran = subprocess.run(
        [words[0], "-X", "importtime", *words[1:]], check=True, capture_output=True, text=True
    )
    seconds: Counter[str] = Counter()
    for line in ran.stderr.splitlines():
        if found := _IMPORTED.match(line):
            seconds[found[2].partition(".")[0]] += int(found[1])
    return [(name, spent / 1e6) for name, spent in seconds.most_common(12)]


def read(words: Sequence[str], folder: Path) -> list[tuple[int, str]]:
    """Data files that the command opened, largest first."""
    told = folder / "read.txt"
    with told.open("wb") as file:
        quoted = 'exec 9>&1 1>/dev/null; exec "$@"'
        subprocess.run(
            ["bash", "-c", quoted, "bash", sys.executable, "-c", _READ, *words],
            check=True,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    found = {name: int(size) for size, _, name in map(_parts, told.read_text().splitlines())}
    return sorted(((size, name) for name, size in found.items()), reverse=True)


def _parts(line: str) -> tuple[str, str, str]:
    return line.partition(" ")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(argv)
    describe(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        at = ("--home", str(folder / "bank"), "--quiet")
        made = ("add", "--task", "bbc_news", "--limit", "60", "--epochs", "1", "--retrain-router")
        subprocess.run([*COMMAND, *at, *made], check=True, capture_output=True)
        bundle = str(folder / "bundle")
        subprocess.run([*COMMAND, *at, "export", bundle], check=True, capture_output=True)
        from_bundle = ("predict", "--bundle", bundle, TEXT)
        sides = {
            "imports alone": (sys.executable, "-c", IMPORTS),
            "predict --bundle": (*COMMAND, *from_bundle),
            "predict from the bank": (*COMMAND, *at, "predict", TEXT),
            "the same, Python's exit": (sys.executable, "-c", PLAIN_EXIT, *at, "predict", TEXT),
            "list": (*COMMAND, *at, "list"),
        }
        for words in sides.values():
            taken(words)  # files become warm
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for _ in range(options.runs):
            for side, words in sides.items():
                found[side].append(taken(words))
        least = statistics.median(spent for spent, _ in found["imports alone"])
        print(f"\n{'':24}processor s   wall s   ratio (aim {AIM})")
        for side, runs in found.items():
            spent, wall = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{side:24}{spent:11.2f}{wall:9.2f}{spent / least:8.2f}")
        print("\nimport seconds of one predict --bundle, by package")
        for package, seconds in imported(sides["predict --bundle"]):
            print(f"{seconds:8.3f}  {package}")
        print("\nfiles that it read")
        for size, file in read(from_bundle, folder)[:12]:
            print(f"{size:12,}  {Path(file).name}")


if __name__ == "__main__":
    main()
