"""Environments of their own, with the sample package installed and without."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parent / "sample"


@dataclass(frozen=True)
class Environment:
    """A virtual environment with everything that the tests' own has."""

    python: Path
    packages: Path

    def run(self, *words: object, code: int = 0) -> str:
        """What the real command prints, in a process of its own; all of it where it must fail."""
        kept = {name: value for name, value in os.environ.items() if name != "EXPERTBANK_HOME"}
        ended = subprocess.run(
            [self.python, "-m", "expertbank_cli.main", *map(str, words)],
            capture_output=True,
            text=True,
            env={**kept, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            timeout=300,
            check=False,
        )
        assert ended.returncode == code, f"{words} exited {ended.returncode}: {ended.stderr}"
        assert "Traceback" not in ended.stderr
        return ended.stdout + (ended.stderr if code else "")

    def json(self, *words: object) -> Any:
        """The answer as JSON."""
        return json.loads(self.run("--json", *words))

    def lines(self, *words: object) -> list[Any]:
        """The answers of several rows as JSON."""
        return [json.loads(line) for line in self.run("--json", *words).splitlines()]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Environment]:
    """Makes one more environment."""

    def make() -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, with_pip=False, symlinks=True)
        scheme = sysconfig.get_preferred_scheme("prefix")
        names = {"base": str(folder), "platbase": str(folder)}
        packages = Path(sysconfig.get_path("purelib", scheme, names))
        scripts = Path(sysconfig.get_path("scripts", scheme, names))
        # Not as a plain path: an editable install lies there as files that site must read.
        here = sysconfig.get_path("purelib")
        (packages / "others.pth").write_text(f"import site; site.addsitedir({here!r})\n")
        return Environment(scripts / Path(sys.executable).name, packages)

    return make


@pytest.fixture(scope="module")
def without(environment: Callable[[], Environment]) -> Environment:
    """An environment without the sample package."""
    return environment()


@pytest.fixture(scope="module")
def installed(
    environment: Callable[[], Environment], tmp_path_factory: pytest.TempPathFactory
) -> Environment:
    """An environment with the sample package, installed from its sources as by its users."""
    if importlib.util.find_spec("pip") is None or int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("installing from sources offline needs pip, and setuptools of 2025")
    made = environment()
    copy = tmp_path_factory.mktemp("sources") / "sample"
    shutil.copytree(SAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    words = ["-m", "pip", "--python", str(made.python), "install", "--quiet", "--no-deps"]
    words += ["--no-index", "--no-build-isolation", "--no-compile", str(copy)]
    ended = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return made
