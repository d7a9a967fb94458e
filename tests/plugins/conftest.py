"""Environments of their own, with the sample package installed and without."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from environments import Environment

SAMPLE = Path(__file__).parent / "sample"


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
