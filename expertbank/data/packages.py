"""Data inside installed Python packages, found by location and never imported.

Importing a data package can print, download, or pull in half of the world; only its files are
wanted.
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from expertbank.data.refs import SourceRef
from expertbank.errors import InputError, SourceUnavailableError


def package_path(ref: SourceRef) -> Path:
    """The file or folder that a ``pkg:package/path`` reference means.

    Raises:
        SourceUnavailableError: the package is not installed, or lacks the path.
        InputError: the path leads out of the package's folder.
    """
    try:
        # For a top-level name this looks the package up and does not run it.
        spec = find_spec(ref.location)
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise SourceUnavailableError(f"package {ref.location} is not installed")
    for folder in folders:
        root = Path(folder).resolve()
        target = (root / ref.inner).resolve()
        if not target.is_relative_to(root):
            raise InputError(f"package source {ref.text!r} leads out of its package")
        if target.exists():
            return target
    raise SourceUnavailableError(
        f"the installed package {ref.location} has no {ref.inner}; another version of it may"
    )


def package_version(package: str) -> str | None:
    """Version of the distribution that has the package's name, if there is one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
