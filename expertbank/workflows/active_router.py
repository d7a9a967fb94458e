"""The router that answers now, and the groups that it knows."""

from __future__ import annotations

from collections.abc import Mapping

from expertbank.errors import NotFoundError
from expertbank.records import RouterRecord
from expertbank.registry.registry import Registry


def active_router(registry: Registry) -> RouterRecord | None:
    """The router that answers, if there is one yet."""
    try:
        return registry.router()
    except NotFoundError:
        return None


def groups_of(registry: Registry, router: RouterRecord | None) -> Mapping[str, str | None]:
    """By task its group: the router's, and before the first router the tasks' own."""
    if router is not None:
        return router.group_of
    return {task.name: task.group for task in registry.tasks()}
