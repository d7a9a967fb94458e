"""Killed, interrupted or refused by the disk at any writing system call, a bank stays whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import injecting
import pytest
import stracing

SAMPLE = int(os.environ.get("EXPERTBANK_FAULTS", "80"))
"""Injections drawn evenly over the commands; ``examples/benchmarks/fault_sweep.py`` tries all."""


@pytest.mark.slow
def test_no_fault_at_a_writing_call_loses_or_half_makes_anything(tmp_path: Path) -> None:
    refused = stracing.available()
    if refused:
        pytest.skip(refused)
    ended = subprocess.run(
        [sys.executable, injecting.__file__, str(tmp_path), "--sample", str(SAMPLE), "--seed", "7"],
        stdout=subprocess.PIPE,
        timeout=590,
        env=stracing.ENVIRONMENT,
        check=True,
    )
    found = json.loads(ended.stdout)
    assert [one for one in found if one["wrong"]] == []
    commands = Counter(one["command"] for one in found)
    assert len(commands) >= 11
    assert len(found) >= SAMPLE // 2
    outcomes = Counter(one["outcome"] for one in found)
    assert outcomes["killed, unchanged"], "no kill came before the work was done"
    assert outcomes["told, unchanged"], "no failing disk was noticed"
    assert outcomes["interrupted, unchanged"], "no Ctrl-C came in time"
