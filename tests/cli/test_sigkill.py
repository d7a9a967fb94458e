"""Killing ``add`` with SIGKILL at any moment leaves a bank in which every command works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import killing
import pytest
from command_line import write_task

FILES_OF_ONE_ADD = 3
"""The expert, its features, its answers."""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_bank_survives_add_being_killed_at_any_moment(backbone: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path / "mood.csv", "mood", 160)
    ended = subprocess.run(
        [sys.executable, killing.__file__, str(tmp_path), str(backbone), str(data)],
        stdout=subprocess.PIPE,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        check=True,
    )
    found = json.loads(ended.stdout)
    attempts = found["attempts"]
    assert len(attempts) == killing.KILLS
    killed = [attempt for attempt in attempts if attempt["ended"] == -signal.SIGKILL]
    assert len(killed) >= killing.KILLS // 2, "most kills came too late to mean anything"
    assert any(attempt["files"] for attempt in killed), "none came while files were written"
    for attempt in attempts:
        # Killed before it had made its bank: there is none, and the commands say so.
        allowed = {0, 10} if attempt["phase"] == "making" else {0}
        assert attempt["commands"] in allowed, attempt
        # The same command again does its work, unless the work was done before the kill.
        again = attempt.get("again", 0)
        assert again == 0 or (again == 3 and attempt["files"] == FILES_OF_ONE_ADD), attempt
    assert found["whole"] == 0, found
