"""What a model does with ten tokens: how its modules are called, and whether it is causal.

A family in the table was read and tested by hand. For any other model these are the things that
must hold before an update can be added to a module's output by hook, so they are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from expertbank.backbones.forks import computing

_SHAPE = (2, 5)
"""Sequences and tokens of the probe; unlike each other and unlike any model's width."""


@torch.no_grad()
def calls(model: nn.Module, paths: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Calls of the modules at ``paths`` in one pass, in order: path and shape of the input.

    Args:
        model: the bare model, in eval mode.
        paths: modules to watch.

    Raises:
        RuntimeError, TypeError, ...: whatever the model raises if it cannot be run on tokens.
    """
    seen: list[tuple[str, tuple[int, ...]]] = []

    def note(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = args[0] if args else kwargs.get("hidden_states")
        seen.append((path, tuple(state.shape) if isinstance(state, Tensor) else ()))

    handles = [
        model.get_submodule(path).register_forward_pre_hook(partial(note, path), with_kwargs=True)
        for path in paths
    ]
    try:
        _last_states(model, _tokens(model))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def misfits(model: nn.Module, paths: Sequence[str]) -> list[str]:
    """The modules that are not called exactly once a pass on ``[batch, tokens, width]``.

    An update for one row of a batch cannot be added to them: what runs twice, on another batch
    or on tokens picked from several rows has no place for it.
    """
    shapes: dict[str, list[tuple[int, ...]]] = {path: [] for path in paths}
    for path, shape in calls(model, paths):
        shapes[path].append(shape)
    return [
        path
        for path, found in shapes.items()
        if len(found) != 1 or len(found[0]) != 3 or found[0][:2] != _SHAPE
    ]


@torch.no_grad()
def is_causal(model: nn.Module) -> bool:
    """Whether the last token leaves the states of the tokens before it alone."""
    ids = _tokens(model)
    other = ids.clone()
    other[:, -1] = ids[:, 0]
    return torch.equal(_last_states(model, ids)[:, :-1], _last_states(model, other)[:, :-1])


@torch.no_grad()
def output_shape(model: nn.Module) -> tuple[int, ...]:
    """Shape of the last hidden states beyond batch and tokens; empty where there are none."""
    states = _last_states(model, _tokens(model))
    return tuple(states.shape[2:]) if tuple(states.shape[:2]) == _SHAPE else ()


def _tokens(model: nn.Module) -> Tensor:
    """Ten different token ids from the middle of the vocabulary, where words are."""
    config: Any = model.config
    device = next(model.parameters()).device
    numbers = torch.arange(_SHAPE[0] * _SHAPE[1], device=device)
    words = int(config.vocab_size)
    return ((numbers + words // 2) % words).reshape(_SHAPE)


@computing()
def _last_states(model: nn.Module, ids: Tensor) -> Tensor:
    output: Any = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    states = output.last_hidden_state
    assert isinstance(states, Tensor)
    return states
