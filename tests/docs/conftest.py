"""What the pages need to be run as a reader would run them: in a shell."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
import warm

ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


@pytest.fixture(scope="module")
def with_warm_command(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a script whose ``expertbank`` starts without importing torch anew."""
    program = tmp_path_factory.mktemp("bin") / "expertbank"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(warm.command())} "$@"\n')
    program.chmod(0o755)
    return {**ENVIRONMENT, "PATH": f"{program.parent}{os.pathsep}{ENVIRONMENT['PATH']}"}
