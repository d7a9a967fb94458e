"""Names for what an outsider can add: a task kind, an adapter kind, a gate, a family, a store.

What belongs to expertbank is named by module and attribute and imported on first use, so that
listing names costs nothing. A plugin is added by ``register``, or by an entry point of an
installed package, which is looked for once and loaded when its name is asked for.
``docs/plugins.md`` shows one of each.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from threading import RLock
from typing import Any, Generic, TypeVar

from expertbank.errors import InputError, NotFoundError

T = TypeVar("T")
GROUPS = {
    "expertbank.kinds": "expertbank.kinds:KINDS",
    "expertbank.gates": "expertbank.routing.gates:GATES",
    "expertbank.families": "expertbank.backbones.families:FAMILIES",
    "expertbank.adapters": "expertbank.adapters:ADAPTERS",
    "expertbank.stores": "expertbank.artifacts.stores:STORES",
}
"""What can be added: group of entry points to ``module:attribute`` of its ``Plugins``."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, slots=True)
class Refused:
    """A plugin that cannot be used: what it is, its name, who brings it, and why."""

    what: str
    name: str
    package: str
    why: str


class Plugins(Generic[T]):
    """Everything of one sort, by name. Safe for threads.

    Args:
        what: what one of them is, for messages: ``gate``.
        group: the entry points' group: ``expertbank.gates``.
        own: those of expertbank: name to ``module:attribute``.
        complaint: from a plugin's name and the plugin to why it cannot be used, as what follows
            its name in a sentence (``lacks fit``); ``None`` where it can.
        unasked: names of its own that nobody asks for, which are not offered in messages.
    """

    def __init__(
        self,
        what: str,
        group: str,
        *,
        own: Mapping[str, str],
        complaint: Callable[[str, object], str | None],
        unasked: Collection[str] = (),
    ) -> None:
        self.what = what
        self.group = group
        self.own = dict(own)
        self._complaint = complaint
        self._unasked = unasked
        self._loaded: dict[str, T] = {}
        self._lock = RLock()

    def names(self) -> tuple[str, ...]:
        """All names: expertbank's own first, then plugins' by name; nothing is imported."""
        registered = set(self._loaded) | set(self._entry_points)
        return (*self.own, *sorted(registered - set(self.own)))

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
            self._require(f"the {self.what} {name!r}", name, plugin)
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

    def require(self, name: str) -> None:
        """Refuse a name that nothing has here; nothing is imported.

        Raises:
            NotFoundError: as ``get``.
        """
        if name not in self.names():
            raise self._missing(name)

    def usable(self) -> Iterator[tuple[str, T]]:
        """Each with its name, imported now; plugins that cannot be used are passed over."""
        for name in self.names():
            try:
                yield name, self.get(name)
            except InputError:  # whoever asks for it by its name is told
                continue

    def refused(self) -> tuple[Refused, ...]:
        """Installed plugins that cannot be used; this loads them all."""
        found = []
        for name, points in self._entry_points.items():
            why = ""
            if name in self.own:
                why = f"{name!r} is the name of one of expertbank's own"
            else:
                try:
                    self.get(name)
                except InputError as error:
                    why = str(error)
            found += [Refused(self.what, name, _package(point), why) for point in points if why]
        return tuple(found)

    @cached_property
    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, []).append(point)
        return found

    def _load(self, name: str) -> T:
        if name in self.own:
            return imported(self.own[name])  # type: ignore[no-any-return]  # named above as T
        points = self._entry_points.get(name)
        if points is None:
            raise self._missing(name)
        packages = " and ".join(sorted(map(_package, points)))
        if len(points) > 1:
            raise InputError(
                f"the {self.what} {name!r} is brought by {packages}; uninstall all but one"
            )
        subject = f"the {self.what} {name!r} of package {packages}"
        try:
            plugin = points[0].load()
        except (Exception, SystemExit) as error:  # whatever a foreign module does when imported
            raise InputError(f"{subject} cannot be loaded: {error!r}") from error
        self._require(subject, name, plugin)
        return plugin  # type: ignore[no-any-return]  # looked at just now

    def _missing(self, name: str) -> NotFoundError:
        hint = f"if a plugin brings it, install that package (entry point {self.group})"
        offered = [one for one in self.names() if one not in self._unasked]
        return NotFoundError.of(self.what, name, offered, hint)

    def _require(self, subject: str, name: str, plugin: object) -> None:
        why = self._complaint(name, plugin)
        if not _NAME.fullmatch(name):
            why = "has no plain name: letters, digits, and . _ + - after the first"
        if why:
            raise InputError(f"{subject} {why}; it was not added")


def refused() -> tuple[Refused, ...]:
    """Every installed plugin, of whatever sort, that cannot be used; this loads them all."""
    return tuple(
        one
        for group, place in GROUPS.items()
        if entry_points(group=group)  # else there is nothing to import the room for
        for one in imported(place).refused()
    )


def at_fault(error: BaseException) -> str | None:
    """The installed package of plugins in whose code ``error`` came up.

    ``None`` where expertbank called what failed: of all code on the way, other libraries' apart,
    the innermost counts.
    """
    brought = {
        point.module.partition(".")[0]: _package(point)
        for group in GROUPS
        for point in entry_points(group=group)
    }
    ours = {__name__.partition(".")[0]: None, "expertbank_cli": None}
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        found = {**brought, **ours}.get(module, found)
    return found


def unlike(plugin: object, base: type) -> str | None:
    """Why ``plugin`` is no instance of ``base``, as ``Plugins`` wants it; ``None`` if it is one."""
    if isinstance(plugin, base):
        return None
    if isinstance(plugin, type) and issubclass(plugin, base):
        missing = sorted(getattr(plugin, "__abstractmethods__", ()))
        what = f"is a class where an object of it belongs, such as {plugin.__name__}(...)"
        return f"lacks {', '.join(missing)}" if missing else what
    bases = reversed(base.__mro__)
    declared = (name for one in bases for name in vars(one).get("__annotations__", ()))
    public = dict.fromkeys((*declared, *dir(base)))
    missing = [name for name in public if name[0] != "_" and not hasattr(plugin, name)]
    what = f"is not made from {base.__module__}.{base.__name__}"
    return f"lacks {', '.join(missing)} and {what}" if missing else what


def imported(place: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value
