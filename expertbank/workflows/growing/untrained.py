"""What ``add`` refuses of a task that an adapter elsewhere answers: whatever is about training."""

from __future__ import annotations

from typing import Any

from expertbank.config import NO_ADAPTER, AdapterConfig, TrainConfig, TuneConfig
from expertbank.errors import InputError
from expertbank.settings import options_of

UNTRAINED = AdapterConfig(kind=NO_ADAPTER, alpha=1.0)
"""The adapter of an expert that is not trained."""
_OF_ROWS = frozenset({"seed", "limit", "eval_limit", "selection_share", "selection_floor"})
"""Settings of training that say which rows are read, and which of them stay apart."""


def require_untrained(
    name: str, adapter: AdapterConfig | None, train: TrainConfig | None, tune: TuneConfig | None
) -> None:
    """Refuse settings of training where nothing is trained.

    Args:
        name: the task.
        adapter: the shape that was asked for, if one was.
        train: how training was asked for.
        tune: how settings were to be searched.

    Raises:
        InputError: there is one; the message names them as options.
    """
    odd = [flag for one in (adapter, train, tune) if one is not None for flag in _of_training(one)]
    if odd:
        raise InputError(
            f"task {name} is answered elsewhere and nothing is trained; leave out {', '.join(odd)}"
        )


def _of_training(settings: Any) -> list[str]:
    """Options of a settings object that are not as they would be by themselves."""
    kind: Any = type(settings)
    return [
        option.flag
        for option in options_of(kind)
        if option.field not in _OF_ROWS and getattr(settings, option.field) != option.default
    ]
