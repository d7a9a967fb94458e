"""What ``add`` refuses because a task's kind leaves it without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expertbank.config import NO_ADAPTER, AdapterConfig, TrainConfig, TuneConfig
from expertbank.errors import InputError
from expertbank.kinds import KINDS
from expertbank.settings import Option, options_of

if TYPE_CHECKING:
    from expertbank.kinds import Kind

UNTRAINED = AdapterConfig(kind=NO_ADAPTER, alpha=1.0)
"""The adapter of an expert that is not trained."""
OF_ROWS = frozenset({"seed", "limit", "eval_limit", "selection_share", "selection_floor"})
"""Settings of training that say which rows are read, and which of them stay apart."""
OF_ADAPTERS = frozenset({"lr", "average_steps", "accumulate", "checkpoint_layers", "cache_bytes"})
"""Settings of training that say nothing of a head that is fitted alone."""
_OF_HEADS = frozenset({"head_lr", "pooling", "balance"})
_OF_CLASSES = frozenset({"balance"})


def require_effect(
    name: str,
    kind: str,
    adapter: AdapterConfig | None,
    train: TrainConfig | None,
    tune: TuneConfig | None,
) -> None:
    """Refuse settings of training that would change nothing.

    Args:
        name: the task.
        kind: its kind.
        adapter: the shape that was asked for, if one was.
        train: how training was asked for.
        tune: how settings were to be searched.

    Raises:
        InputError: there is one; the message names them as options.
    """
    changed = {
        option.field: option.flag
        for settings in (adapter, train, tune)
        if settings is not None
        for option in _changed(settings)
    }
    why, idle = _without_effect(KINDS.get(kind), changed.keys() - OF_ROWS)
    if odd := [flag for field, flag in changed.items() if field in idle]:
        raise InputError(f"task {name} {why}; leave out {', '.join(odd)}")


def _changed(settings: Any) -> list[Option]:
    """The options of a settings object that are not as they would be by themselves."""
    kind: Any = type(settings)
    return [one for one in options_of(kind) if getattr(settings, one.field) != one.default]


def _without_effect(kind: Kind, settings: set[str]) -> tuple[str, set[str]]:
    """Why, and which of the settings of training do nothing for a kind."""
    if kind.elsewhere:
        return "is answered elsewhere and nothing is trained", settings
    if not kind.has_head:
        return f"is of kind {kind.name}, whose experts have no head", settings & _OF_HEADS
    if not kind.names_labels:
        return f"is of kind {kind.name}, which has no classes to balance", settings & _OF_CLASSES
    return "", set()
