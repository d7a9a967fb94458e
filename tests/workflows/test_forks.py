"""A fork of a process that computed: it answers or says why it cannot, and never hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("forking.py")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
]


def run(folder: Path, before: str, threads: int, inside: str) -> tuple[str, object]:
    """How a child ended: ``done``, ``hung``, or the name of an error; and what it said."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    words = [sys.executable, SCRIPT, folder, before, threads, inside]
    ended = subprocess.run(
        list(map(str, words)),
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    how, said = json.loads(ended.stdout.splitlines()[-1])
    return how, said


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
    job: Path, before: str, inside: str
) -> None:
    how, said = run(job, before, 2, inside)
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
    job: Path, before: str, threads: int, inside: str
) -> None:
    how, said = run(job, before, threads, inside)
    assert how == "done", said


def test_a_child_that_was_forked_while_another_thread_predicted_never_hangs(job: Path) -> None:
    how, _ = run(job, "busy", 2, "one-predict")
    assert set(how.split(", ")) <= {"done", "ExpertBankError"}
    assert "ExpertBankError" in how
