"""Virtual environments for what cannot be installed beside expertbank."""

from __future__ import annotations

import os
import subprocess
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path


def environment(
    folder: Path,
    packages: Sequence[str],
    unfit: Sequence[str] = (),
    build: Mapping[str, str] | None = None,
) -> Path:
    """The Python of a virtual environment, made where it is missing.

    Args:
        folder: where it is.
        packages: what is installed.
        unfit: what of it is taken away again.
        build: variables for packages that are built from source.
    """
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        venv.create(folder, with_pip=True)
        variables = {**os.environ, **(build or {})}
        install: list[str | Path] = [python, "-m", "pip", "install", "-q", *packages]
        subprocess.run(install, env=variables, check=True)
        if unfit:
            subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *unfit], check=True)
        (folder / "made").touch()
    return python
