"""The other sides of ``fusion.py``: adapters and fusions, trained by another Python."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fusion_bank import Shared
from other_pythons import environment
from trials import Key, Runs

from expertbank.backbones.backbone import Backbone

PACKAGES = ("torch==2.13.0", "adapters==1.3.*", "transformers==4.57.*", "requests")
HERE = Path(__file__).parent
ALL = "all"
"""Stands for the task in runs of fusions, which are over all."""
PUBLISHED = {"side": "as published", "lr": 5e-5, "batch_size": 8}
"""What the published script sets; see ``others/adapter_fusion.py``."""

Run = dict[str, Any]


def named(run: Run) -> str:
    """A run's settings."""
    own = {name: value for name, value in run.items() if name not in ("task", "answer", "side")}
    text = ", ".join(f"{name} {own[name]:g}" for name in sorted(own))
    return f"{run['side']}, {text}" + ("" if run["answer"] else ", no answers")


def key_of(run: Run, seed: int) -> Key:
    """What the run is called in the file of results."""
    return run.get("task", ALL), seed, named(run)


def adapter(task: str, rate: float, *, answer: bool) -> Run:
    """A Pfeiffer adapter."""
    return {"side": "adapter", "task": task, "lr": rate, "answer": answer}


def paired(run: Run) -> Run:
    """The same with the product's heads of pairs, over adapters that were trained so."""
    return {**run, "side": f"{run['side']}, pair"}


def published(adapter_rate: float) -> Run:
    """AdapterFusion as the paper's authors published it."""
    return {**PUBLISHED, "adapter_lr": adapter_rate, "answer": True}


def fusion(options: argparse.Namespace, adapter_rate: float, rate: float, *, answer: bool) -> Run:
    """AdapterFusion with a head over all classes."""
    length = {"epochs": options.fusion_epochs, "patience": options.fusion_patience}
    return {"side": "fusion", "lr": rate, "adapter_lr": adapter_rate, **length, "answer": answer}


def done(runs: Runs, run: Run, seed: int) -> dict[str, Any] | None:
    """A finished run; one that answered stands for the same one that did not."""
    keys = [key_of(run, seed)] + ([] if run["answer"] else [key_of({**run, "answer": True}, seed)])
    return next((runs.by_key[key] for key in keys if key in runs.by_key), None)


def best(runs: Runs, seed: int, tried: Sequence[tuple[float, Sequence[Run]]]) -> float:
    """The rate with the best mean score on held-out training rows."""

    def score(own: Sequence[Run]) -> float:
        found = [done(runs, run, seed) for run in own]
        return statistics.mean(run["selection"] for run in found if run is not None)

    return max(tried, key=lambda one: score(one[1]))[0]


class Adapters:
    """The other Python under one seed.

    Args:
        seed: of everything.
        shared: the rows.
        runs: the finished ones.
        backbone: the frozen model.
        options: the command line.
    """

    def __init__(
        self,
        seed: int,
        shared: Shared,
        runs: Runs,
        backbone: Backbone,
        options: argparse.Namespace,
    ) -> None:
        self.seed, self.shared, self.runs, self.options = seed, shared, runs, options
        self.told = {
            "backbone": str(options.folder),
            "pad": backbone.tokenizer.pad_token_id,
            "dtype": options.dtype,
            "rows": str(shared.file),
            "adapters": str(options.work / f"adapters-{seed}"),
            "seed": seed,
            "threads": options.threads,
        }

    def do(self, wanted: Sequence[Run]) -> None:
        """Do those of the runs that are not done; each is kept as it ends."""
        left = [run for run in wanted if done(self.runs, run, self.seed) is None]
        if not left:
            return
        for facts in self._lines(left):
            run = left[facts.pop("run")]
            self.runs.add(key_of(run, self.seed), {**run, **facts, "rows": self.shared.digest})
            about = f"{facts['selection']:.4f} held out, " if "selection" in facts else ""
            print(
                f"seed {self.seed}, {run.get('task', ALL)}, {named(run)}: {about}"
                f"{facts['seconds']:.0f} s",
                flush=True,
            )

    def _lines(self, runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
        work = self.options.work
        python = environment(work / "adapters", PACKAGES)
        asked = work / "asked.json"
        asked.write_text(json.dumps({**self.told, "runs": runs}))
        variables = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": str(self.options.threads),
            "PYTHONPATH": str(HERE.parents[1]),
        }
        with (
            (work / "adapter_fusion.log").open("a") as log,
            subprocess.Popen(
                [python, HERE / "others" / "adapter_fusion.py", asked],
                env={**os.environ, **variables},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
        if process.returncode:
            raise SystemExit(f"adapter_fusion.py failed, see {work / 'adapter_fusion.log'}")
