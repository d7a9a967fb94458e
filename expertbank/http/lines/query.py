"""What the query of ``/predict`` says of all rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from expertbank.http.problems import malformed
from expertbank.records import Row
from expertbank.serving.asking import AUTO, Ask

_FLAGS = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_PARAMETERS = ("task", "abstain", "fallback", "skip_bad")


@dataclass(frozen=True, slots=True)
class Options:
    """What the query says of all rows.

    Attributes:
        task: task that answers; ``None`` to route.
        abstain: answer ``unknown`` to rows like no task.
        fallback: task that answers such rows instead.
        skip_bad: leave rows out that cannot be answered, and say so in their place.
    """

    task: str | None = None
    abstain: bool = False
    fallback: str | None = None
    skip_bad: bool = False

    def ask(self, rows: Iterable[Row]) -> Ask:
        """The same wish for some of the rows."""
        return Ask(tuple(rows), self.task or AUTO, None, self.abstain, self.fallback)


def read_options(items: Sequence[tuple[str, str]]) -> Options:
    """The options in a query.

    Raises:
        RefusedError: an unknown or repeated parameter, or a flag that is neither true nor false.
    """
    given: dict[str, str] = {}
    for name, value in items:
        if name not in _PARAMETERS:
            raise malformed(f"no such parameter {name[:40]!r}; there are {', '.join(_PARAMETERS)}")
        if name in given:
            raise malformed(f"parameter {name!r} stands there twice")
        given[name] = value
    found = Options(
        given.get("task") or None,
        _flag(given, "abstain"),
        given.get("fallback") or None,
        _flag(given, "skip_bad"),
    )
    if (found.task is not None) + found.abstain + (found.fallback is not None) > 1:
        raise malformed("name a task, or abstain, or give a fallback: only one of them")
    return found


def _flag(given: Mapping[str, str], name: str) -> bool:
    value = given.get(name)
    if value is None:
        return False
    found = _FLAGS.get(value.lower())
    if found is None:
        raise malformed(f"parameter {name!r} must be true or false")
    return found
