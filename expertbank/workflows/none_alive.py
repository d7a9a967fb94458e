"""Why a bank has no live expert, and what to do: told alike by every command that needs one."""

from __future__ import annotations

from expertbank.errors import NotFoundError
from expertbank.registry.names import AGAIN
from expertbank.registry.registry import Registry

ADD = "expertbank add --task NAME --data FILE"


def none_alive(registry: Registry) -> tuple[str, str]:
    """The command that makes an expert where no live one is, and why there is none."""
    if registry.tasks(include_removed=True):
        return AGAIN, "all tasks of the bank were removed"
    return ADD, "the bank has no expert yet"


def no_expert(registry: Registry) -> NotFoundError:
    """The same as an error."""
    command, why = none_alive(registry)
    return NotFoundError(f"{why}; first run: {command}")
