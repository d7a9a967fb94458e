"""Eight experts one after the other, on two processes and on a Ray cluster of two one-core workers.

Run it with: python examples/benchmarks/at_once.py ../shared/data [--on processes:2 ray]

Each way adds the same list into a bank of its own with the command line, one thread a worker; the
ways take turns, `--rounds` times. Reported: median seconds and how many times as fast as one after
the other; whether all digests are equal. Then a worker of the first way is killed (SIGKILL) in the
middle: digests must be equal again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from machine import describe

TASKS = ("boolq", "cb", "cola", "mrpc", "qnli", "rte", "sick", "sst2")
SERIAL = "one after the other"


def added(
    options: argparse.Namespace, folder: Path, way: str, kill_after: float | None = None
) -> tuple[float, dict[str, str]]:
    """Seconds of the command, and digests by task."""
    entries = [f"- {{task: {task}, data: {options.data / task}}}" for task in TASKS]
    (folder / "list.yaml").write_text("\n".join(entries))
    words = [sys.executable, "-m", "expertbank", "--home", str(folder / "bank"), "--json", "add"]
    words += ["--list", str(folder / "list.yaml"), "--limit", str(options.rows)]
    words += ["--eval-limit", "100", "--epochs", str(options.epochs), "--max-length", "96"]
    words += [] if way == SERIAL else ["--on", way, "--threads", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    if way == "ray":
        env["RAY_OVERRIDE_RESOURCES"] = json.dumps({"CPU": 2})
    begun = time.monotonic()
    with subprocess.Popen(
        words, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as command:
        if kill_after is not None:
            threading.Timer(kill_after, kill_one_worker, [command.pid]).start()
        out, _ = command.communicate()
    document = json.loads(out)
    assert not document["failed"], document["failed"]
    digests = {one["task"]: one["expert"]["digest"] for one in document["added"]}
    return time.monotonic() - begun, digests


def kill_one_worker(parent: int) -> None:
    """Kill a process that the command spawned, or one of Ray's that has a task."""
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes()
            spawned = f"PPid:\t{parent}\n" in (entry / "status").read_text()
            rays = words.startswith(b"ray::") and not words.startswith(b"ray::IDLE")
            if rays or (spawned and b"spawn_main" in words):
                os.kill(int(entry.name), signal.SIGKILL)
                print(f"killed worker {entry.name}", flush=True)
                return
        except (OSError, ValueError):
            continue


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--on", nargs="*", default=["processes:2", "ray"])
    options = parser.parse_args(argv)
    options.data = options.data.resolve()
    describe(0)
    ways = [SERIAL, *options.on]
    took: dict[str, list[float]] = {way: [] for way in ways}
    seen: list[dict[str, str]] = []
    for _ in range(options.rounds):
        for way in ways:
            with tempfile.TemporaryDirectory() as folder:
                seconds, digests = added(options, Path(folder), way)
            took[way].append(seconds)
            seen.append(digests)
            print(f"{way}: {seconds:.0f} s", flush=True)
    serial = statistics.median(took[SERIAL])
    print("\n| eight experts | seconds | times as fast |\n|---|---|---|")
    for way in ways:
        middle = statistics.median(took[way])
        print(f"| {way} | {middle:.0f} | {serial / middle:.2f} |")
    with tempfile.TemporaryDirectory() as folder:
        half = statistics.median(took[options.on[0]]) / 2
        seconds, digests = added(options, Path(folder), options.on[0], half)
    print(f"{options.on[0]} with a worker killed: {seconds:.0f} s")
    print(f"digests equal: {all(one == digests for one in seen)}")


if __name__ == "__main__":
    main()
