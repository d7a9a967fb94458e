"""A fork of a process that computed: it answers or says why it cannot, and never hangs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("forking.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]


# What a parent does, with how many threads, and what its children do, one after the other.
CHILDREN = {
    ("load", 2): ("predict",),
    ("predict", 2): ("predict", "reload", "refit", "pool", "one-predict", "loader", "read"),
    ("predict", 1): ("predict",),
    ("train", 2): ("predict", "one-train"),
    ("refit", 2): ("train",),
    ("busy", 2): ("one-predict",),
}
Ended = Callable[[str, int, str], tuple[str, object]]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, made_job: Path) -> Ended:
    """How a child ended: ``done``, ``hung``, or the name of an error; and what it said."""

    words = [sys.executable, str(SCRIPT)]
    for (before, threads), children in CHILDREN.items():
        folder = tmp_path_factory.mktemp("forks") / "job"
        shutil.copytree(made_job, folder)
        words.append(json.dumps([str(folder), before, threads, children]))
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=400, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = zip(CHILDREN.items(), done.stdout.splitlines(), strict=True)
    ends = {
        parent: dict(zip(children, map(tuple, json.loads(line)), strict=True))
        for (parent, children), line in lines
    }
    return lambda before, threads, inside: ends[before, threads][inside]


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        ("predict", "predict"),
        ("predict", "reload"),
        ("predict", "refit"),
        ("train", "predict"),
        ("refit", "train"),
        ("predict", "pool"),
    ],
)
def test_a_child_of_a_process_that_computed_refuses_and_says_what_to_do(
    ended: Ended, before: str, inside: str
) -> None:
    how, said = ended(before, 2, inside)
    assert how == "ExpertBankError", said
    assert "was forked from one that had predicted or trained" in str(said)
    for advice in ("without --preload", '"spawn"', "torch.set_num_threads(1)"):
        assert advice in str(said)


@pytest.mark.parametrize(
    ("before", "threads", "inside"),
    [
        ("load", 2, "predict"),
        ("predict", 2, "one-predict"),
        ("train", 2, "one-train"),
        ("predict", 2, "loader"),
        ("predict", 2, "read"),
        ("predict", 1, "predict"),
    ],
    ids=[
        "of what was only loaded",
        "with one thread",
        "training with one thread",
        "as the workers of a DataLoader",
        "of what needs no torch",
        "of a process with one thread",
    ],
)
def test_a_child_that_needs_no_thread_of_its_parent_does_its_work(
    ended: Ended, before: str, threads: int, inside: str
) -> None:
    how, said = ended(before, threads, inside)
    assert how == "done", said


def test_a_child_that_was_forked_while_another_thread_predicted_never_hangs(ended: Ended) -> None:
    how, _ = ended("busy", 2, "one-predict")
    assert set(how.split(", ")) <= {"done", "ExpertBankError"}
    assert "ExpertBankError" in how
