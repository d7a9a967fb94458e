"""Source references: the short texts that say where rows are.

``folder`` or ``file.csv`` · ``-`` for standard input · ``hf:org/name[:config][@revision]`` ·
``pkg:package/path``. A path is a path and never a pattern.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from expertbank.errors import InputError
from expertbank.files.paths import given_path

_HUB = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?"
)
_PACKAGE = re.compile(r"(?P<package>[A-Za-z_]\w*)/(?P<path>.+)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")

FORMS = (
    "a folder or file, - for standard input, hf:org/name[:config][@revision], or pkg:package/path"
)
STDIN = "-"
ONCE = "once:"
"""What stands before the name of a pipe that was read: it cannot be read again."""


def source_text(data: object) -> str:
    """The reference that a caller in Python gave, as text.

    Raises:
        InputError: it is neither text nor a path, but perhaps the rows themselves.
    """
    if isinstance(data, (str, Path)):
        return str(data)
    raise InputError(
        f"data is {type(data).__name__}, and must say where rows are: {FORMS}. Reports read the "
        "rows again, so write yours to a file first, such as rows.jsonl"
    )


@dataclass(frozen=True, slots=True)
class SourceRef:
    """A parsed source reference.

    Attributes:
        scheme: ``path``, ``stdin``, ``hub`` or ``package``; ``once`` for what was read from a pipe
            and is gone.
        text: the reference as it was written; used in messages.
        location: the path, the Hub id, or the package's name.
        inner: the path inside the package.
        config: configuration of a Hub data set.
        revision: commit, tag or branch of a Hub data set.
    """

    scheme: Literal["path", "stdin", "hub", "package", "once"]
    text: str
    location: str
    inner: str = ""
    config: str | None = None
    revision: str | None = None

    @property
    def stable(self) -> str:
        """The reference in a form that still holds in another working folder."""
        if self.scheme == "stdin":
            return f"{ONCE}standard input"
        if self.scheme != "path":
            return self.text
        path = Path(self.location)
        return f"{ONCE}{self.location}" if is_pipe(path) else str(path.resolve())

    @property
    def place(self) -> tuple[object, ...]:
        """What is named, whichever way it is written: a revision apart, equal for one place."""
        where = os.path.realpath(self.location) if self.scheme == "path" else self.location
        return self.scheme, where, self.inner, self.config

    def within(self, folder: Path) -> str:
        """The reference as it is to be written elsewhere, if paths are meant from ``folder``."""
        return str(folder / self.location) if self.scheme == "path" else self.text

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return "standard input" if self.scheme == "stdin" else self.text.rstrip("/") or self.text


def parse_source(text: str) -> SourceRef:
    """Parse a source reference.

    Raises:
        InputError: the text has none of the known forms, or a package path that leads out of
            its package.
    """
    if not text or "\0" in text:
        raise InputError(f"empty or unusable data source {text!r}; give {FORMS}")
    if text.startswith("hf:"):
        match = _HUB.fullmatch(text[3:])
        if not match:
            raise InputError(f"bad Hub source {text!r}; write hf:org/name[:config][@revision]")
        return SourceRef(
            "hub", text, match["id"], config=match["config"], revision=match["revision"]
        )
    if text.startswith("pkg:"):
        match = _PACKAGE.fullmatch(text[4:])
        if not match:
            raise InputError(f"bad package source {text!r}; write pkg:package/path")
        inner = PurePosixPath(match["path"])
        if inner.is_absolute() or ".." in inner.parts or "\\" in match["path"]:
            raise InputError(f"package source {text!r} leads out of its package; remove '..'")
        return SourceRef("package", text, match["package"], inner=str(inner))
    if text == STDIN:
        return SourceRef("stdin", text, text)
    if text.startswith(ONCE):
        return SourceRef("once", text, text.removeprefix(ONCE))
    if _SCHEME.match(text) and not _exists(text):
        # Two characters before the colon at least, so that C:\data stays a path.
        raise InputError(f"unknown kind of data source {text!r}; give {FORMS}")
    return SourceRef("path", text, str(given_path(text, "the data")))


def is_pipe(path: Path) -> bool:
    """Whether it is there and can be read only once."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except OSError:
        return False


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return False
