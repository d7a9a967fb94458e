"""Real commands that run side by side on one bank, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import warm
from command_line import done, write_task


@pytest.mark.slow
def test_two_adds_of_one_task_another_add_a_router_and_gc_at_once(
    bank: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "d.csv", "mood", 60, seed=5)
    add = ["add", "--data", str(data), "--epochs", "1", "--task"]
    commands = {
        "one": [*add, "same"],
        "two": [*add, "same", "--seed", "1"],
        "other": [*add, "other"],
        "router": ["retrain-router"],
        "gc": ["gc", "--yes", "--grace", "0"],
    }
    running = {
        name: subprocess.Popen(
            [*warm.command(), "--home", str(bank), "--json", "--quiet", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name, words in commands.items()
    }
    ended = {name: (process.communicate(timeout=200), process) for name, process in running.items()}
    codes = {name: process.returncode for name, (_, process) in ended.items()}
    told = {name: streams[1][-400:] for name, (streams, _) in ended.items()}
    assert sorted((codes["one"], codes["two"])) == [0, 3], told
    assert (codes["other"], codes["gc"]) == (0, 0), told
    assert codes["router"] in {0, 4}, told
    promised = {
        json.loads(streams[0])["expert"]["digest"]
        for name, (streams, process) in ended.items()
        if process.returncode == 0 and name in {"one", "two", "other"}
    }
    listed = done("--home", bank, "--json", "list").document["experts"]
    assert promised <= {expert["digest"] for expert in listed}
    assert [expert["id"] for expert in listed if expert["task"] == "same"] == ["same@1"]
    assert done("--home", bank, "--json", "verify").document["ok"]
    done("--home", bank, "retrain-router")
