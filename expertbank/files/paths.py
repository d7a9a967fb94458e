"""Paths as people give them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from expertbank.errors import InputError


def given_path(path: str | os.PathLike[str], what: str) -> Path:
    """A path that a user gave, ``~`` and ``~user`` replaced by the home folder.

    Args:
        path: what was given.
        what: what it is for, as the message says it.

    Raises:
        InputError: it is no path, it is empty, which would silently mean the working folder, or
            the system takes it for no path: a name that is too long, links that lead in a circle.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{what} must be a path, got {path!r}")
    text = os.fspath(path)
    if not text:
        raise InputError(f"{what} must not be empty; the working folder is .")
    if "\0" in text:
        raise InputError(f"{what} must not hold a NUL character, got {text!r}")
    try:
        # Not of the path object, which takes ./~name for ~name.
        expanded = os.path.expanduser(text)
        if expanded.startswith("~"):
            raise InputError(
                f"{what}: there is no home folder for {Path(text).parts[0]}; write ./{text} if "
                "that is its name"
            )
        given = Path(expanded)
        given.stat()
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENAMETOOLONG}:
            raise InputError(f"{what} cannot be {text}: {error.strerror}") from error
    return given


def storable(path: str | os.PathLike[str]) -> str:
    """A path as text that a database can hold: bytes that are not UTF-8 are escaped."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode("utf-8")
