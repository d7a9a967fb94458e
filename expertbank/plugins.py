"""Names for what an outsider can add: a kind of task, a gate, a family of models, a store.

What belongs to expertbank is named by module and attribute and imported on first use, so that
listing names costs nothing. A plugin is added by ``register``, or by an entry point of an
installed package, which is looked for once and loaded when its name is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from threading import RLock
from typing import Any, Generic, TypeVar

from expertbank.errors import InputError, NotFoundError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Refused:
    """A plugin that cannot be used: its name, who brings it, and why."""

    name: str
    package: str
    why: str


class Plugins(Generic[T]):
    """Everything of one sort, by name. Safe for threads.

    Args:
        what: what one of them is, for messages: ``gate``.
        group: the entry points' group: ``expertbank.gates``.
        needed: attributes that each must have.
        base: ``module:Class`` whose public attributes each must have too.
        own: those of expertbank: name to ``module:attribute``.
    """

    def __init__(
        self,
        what: str,
        group: str,
        *,
        needed: Collection[str] = (),
        base: str | None = None,
        own: Mapping[str, str],
    ) -> None:
        self.what = what
        self._group = group
        self._needed = tuple(needed)
        self._base = base
        self._own = dict(own)
        self._loaded: dict[str, T] = {}
        self._lock = RLock()

    def names(self) -> tuple[str, ...]:
        """All names: expertbank's own first, then plugins' by name; nothing is imported."""
        registered = set(self._loaded) | set(self._entry_points)
        return (*self._own, *sorted(registered - set(self._own)))

    def register(self, name: str, plugin: T) -> T:
        """Add ``plugin`` under ``name``, in this process; returns it.

        Raises:
            InputError: the name is taken, or the plugin lacks something; nothing is added.
        """
        with self._lock:
            if name in self.names() and self._loaded.get(name) is not plugin:
                raise InputError(
                    f"a {self.what} named {name!r} is there already; give yours another name"
                )
            self._require(name, plugin)
            self._loaded[name] = plugin
        return plugin

    def get(self, name: str) -> T:
        """The one named ``name``, imported now if it was not before.

        Raises:
            NotFoundError: nothing has that name here.
            InputError: a plugin has, and it cannot be used.
        """
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def refused(self) -> tuple[Refused, ...]:
        """Installed plugins that cannot be used; this loads them all."""
        found = []
        for name, point in self._entry_points.items():
            if name in self._own:
                found.append(Refused(name, _package(point), "the name is expertbank's own"))
                continue
            try:
                self.get(name)
            except InputError as error:
                found.append(Refused(name, _package(point), str(error)))
        return tuple(found)

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self._group)}

    def _load(self, name: str) -> T:
        if name in self._own:
            return _imported(self._own[name])  # type: ignore[no-any-return]  # named above as T
        point = self._entry_points.get(name)
        if point is None:
            raise NotFoundError.of(
                self.what,
                name,
                self.names(),
                f"if a plugin brings it, install that package (entry point {self._group})",
            )
        try:
            plugin: T = point.load()
        except Exception as error:
            raise InputError(
                f"the {self.what} {name!r} of package {_package(point)} cannot be loaded: {error!r}"
            ) from error
        self._require(name, plugin)
        return plugin

    def _require(self, name: str, plugin: T) -> None:
        needed = [*self._needed]
        if self._base:
            needed += [name for name in vars(_imported(self._base)) if not name.startswith("_")]
        missing = [attribute for attribute in needed if not hasattr(plugin, attribute)]
        if missing:
            raise InputError(
                f"the {self.what} {name!r} lacks {', '.join(missing)}; it was not added"
            )


def _imported(location: str) -> Any:
    module, _, attribute = location.partition(":")
    return getattr(import_module(module), attribute)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
