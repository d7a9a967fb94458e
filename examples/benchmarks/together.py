"""Two kinds of adapter over all backbones and tasks of the finished runs: how far apart they are.

Run it with: python examples/benchmarks/together.py

Reads the runs of ``paper.py`` on MiniLM and of ``decoder.py`` on SmolLM2, and trains nothing. Every
task of every backbone counts alike; intervals are those of ``intervals.py``, on the seeds that both
sides have. Tasks that the head alone does as well say little about adapters: ``--leave-out`` names
them, by default the domains of intents.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from intervals import bits, interval
from machine import describe
from trials import table_row

RESULTS = Path(__file__).parent / "results"
TASKS_OF_INTENTS = (
    *("banking", "credit_cards", "kitchen_and_dining", "home", "auto_and_commute"),
    *("travel", "utility", "work", "small_talk", "meta"),
)
Answers = dict[tuple[str, str, int], dict[str, str]]
"""By backbone, task and seed the answers of every side."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", default="TT-LoRA")
    parser.add_argument("--second", default="LoRA r=1")
    parser.add_argument("--leave-out", nargs="*", default=TASKS_OF_INTENTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    describe(options.seed)
    found = finished()
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for (backbone, task, _), sides in sorted(found.items()):
        if {options.first, options.second} <= sides.keys() and task not in options.leave_out:
            pair = sides[options.first], sides[options.second]
            pairs.setdefault((backbone, task), []).append(pair)
    table_row("backbone", ["tasks", "runs", f"{options.first} against {options.second}", "95%"])
    print("|---" * 5 + "|")
    backbones = sorted({backbone for backbone, _ in pairs})
    for chosen in [*([one] for one in backbones), backbones]:
        own = [runs for (backbone, _), runs in pairs.items() if backbone in chosen]
        apart = [
            100 * (bits([first for first, _ in runs]) - bits([second for _, second in runs]))
            for runs in own
        ]
        mean = np.mean([one.mean() for one in apart])
        low, high = interval(apart, np.random.default_rng(options.seed))
        cells = [len(own), sum(map(len, own)), f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}"]
        table_row("together" if chosen is backbones else chosen[0], cells)


def finished() -> Answers:
    """The runs that answered validation rows: of MiniLM by ``paper.py``, of SmolLM2 on a GPU."""
    found: Answers = {}
    for name, backbone in (("paper", "MiniLM"), ("decoder", "SmolLM2")):
        for line in (RESULTS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            run = json.loads(line)
            conditions = run["conditions"]
            if name == "paper" and conditions.get("patience") is None:
                continue
            chosen = conditions.get("device") == "cuda" and conditions.get("epochs") == 4
            if name == "decoder" and (not chosen or "route_layer" in run["tried"]):
                continue
            found.setdefault((backbone, run["task"], run["seed"]), {})[run["side"]] = run["right"]
    return found


if __name__ == "__main__":
    main()
