"""How users name experts, routers and aliases, and how a name is told from a digest."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expertbank.errors import InputError, NotFoundError

ALIAS = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
ACTIVE = "active"
AGAIN = "expertbank add --task NAME --new-version"
"""Makes an expert where all tasks of a bank were removed."""
MIN_PREFIX = 6
MAX_VERSION_DIGITS = 9

_DIGEST_PREFIX = re.compile(rf"[0-9a-f]{{{MIN_PREFIX},64}}")
_VERSIONED = re.compile(rf"(?P<name>.+)@(?P<version>[0-9]{{1,{MAX_VERSION_DIGITS}}})")


def task_name(name: object) -> str:
    """``name``, before a database is asked for what it has no type for.

    Raises:
        InputError: it is no text.
    """
    if not isinstance(name, str):
        raise InputError(f"a task is named by text, got {name!r}")
    return name


def check_alias(name: str) -> None:
    """Refuse an alias that could not be told from a version or is hard to type.

    Raises:
        InputError: not ``[a-z0-9][a-z0-9_-]{0,63}``, or only digits.
    """
    if not isinstance(name, str) or ALIAS.fullmatch(name) is None or name.isdigit():
        raise InputError(
            f"alias {name!r} is not usable; use 1 to 64 of a-z, 0-9, _ and -, beginning with a "
            "letter or digit and not only digits (those name a version)"
        )


def split_version(reference: str) -> tuple[str, int] | None:
    """``boolq@2`` to ``("boolq", 2)``; ``None`` when no version is named."""
    match = _VERSIONED.fullmatch(reference)
    return None if match is None else (match["name"], int(match["version"]))


def is_digest_prefix(reference: str) -> bool:
    """Whether ``reference`` may stand for a digest: 6 to 64 lower-case hex digits."""
    return _DIGEST_PREFIX.fullmatch(reference) is not None


def only_one(reference: str, found: Sequence[str]) -> None:
    """Refuse a digest prefix that stands for more than one thing; ``found`` are their names.

    Raises:
        InputError: more than one.
    """
    if len(found) > 1:
        raise InputError(
            f"digest {reference!r} is ambiguous: {', '.join(found)}; give more digits or a name"
        )


def other_group(task: str, group: str | None, wanted: str) -> str:
    """What to say where a new version of a task names another group than the task's."""
    stands = f"is in group {group}" if group else "stands alone"
    return (
        f"task {task} {stands}, and a new version keeps that; to move the task into group {wanted} "
        f"run: expertbank group {wanted} {task}"
    )


def purged(version: int, experts: Sequence[str], *, alive: bool) -> NotFoundError:
    """What to say where a router is asked for whose experts' files ``gc`` deleted.

    Args:
        version: the router's.
        experts: whose files are gone.
        alive: whether the bank has a live expert, so that another router can be fitted.
    """
    return NotFoundError(
        f"router@{version} cannot be used again: the files of {', '.join(experts)} were deleted "
        f"after their task was removed; run: {'expertbank retrain-router' if alive else AGAIN}"
    )


def forgotten(version: int) -> NotFoundError:
    """What to say where a router is asked for whose gate ``gc --keep-routers`` deleted."""
    return NotFoundError(
        f"router@{version} was forgotten by gc --keep-routers: its gate is no longer stored; name "
        "another one (expertbank list shows them), or train one: expertbank retrain-router"
    )
