"""What a model does with ten tokens: calls of its modules, whether it is causal, its positions.

A family in the table was read and tested by hand. For any other model these are the things that
must hold before an update can be added to a module's output by hook, so they are tried. How
positions are counted is tried with every model: a configuration can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

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

    with ExitStack() as hooked:
        for path in paths:
            module = model.get_submodule(path)
            hook = module.register_forward_pre_hook(partial(note, path), with_kwargs=True)
            hooked.enter_context(hook)
        last_states(model, tokens(model))
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
    """Whether the last token leaves the states of the tokens before it alone.

    But for rounding: mixtures of experts add up their tokens in other groups then.
    """
    ids = tokens(model)
    other = ids.clone()
    other[:, -1] = ids[:, 0]
    one, two = (last_states(model, part)[:, :-1] for part in (ids, other))
    rounding = max(1e-4, torch.finfo(one.dtype).eps)
    return bool((one - two).abs().max() <= rounding * one.abs().max())


@torch.no_grad()
def output_shape(model: nn.Module) -> tuple[int, ...]:
    """Shape of the last hidden states beyond batch and tokens; empty where there are none."""
    states = last_states(model, tokens(model))
    return tuple(states.shape[2:]) if tuple(states.shape[:2]) == _SHAPE else ()


@dataclass(frozen=True, slots=True)
class Positions:
    """How a model counts the positions of tokens.

    Attributes:
        most: tokens that the table of positions has room for; ``None`` without such a table.
        padding: the token that is given no position of its own, wherever it stands, as in
            RoBERTa's family; ``None`` where every token has one.
    """

    most: int | None
    padding: int | None


class _Lookups(TorchDispatchMode):
    """Notes every row that is looked up in a table: the table's length, and which rows."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it so
        self.seen: list[tuple[int, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.embedding.default:
            self.seen.append((int(args[0].shape[0]), args[1]))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def positions(model: nn.Module) -> Positions:
    """What the model looks up by place: rows that go up by one from token to token.

    Args:
        model: the bare model, in eval mode. The padding token of its embedding stands in the
            middle of the second of two sequences.
    """
    words: Any = model.get_input_embeddings()  # type: ignore[operator]  # as every model here has
    ids = tokens(model).flip(-1)  # downwards: words are never taken for positions
    # MPNet's is its own, whatever its configuration says.
    padding = getattr(words, "padding_idx", None)
    if padding is not None:
        ids[0][ids[0] == padding] = (padding + len(words.weight) // 2) % len(words.weight)
        ids[1, _SHAPE[1] // 2] = padding
    with _Lookups() as lookups:
        last_states(model, ids)
    most, skipped = None, False
    for rows, found in lookups.seen:
        places = found.reshape(-1, found.shape[-1]) if found.dim() else found.reshape(1, 1)
        if places.shape[1] == _SHAPE[1] and bool((places[0].diff() == 1).all()):
            room = rows - int(places[0, 0])
            most = room if most is None else min(most, room)
            skipped |= bool((places[-1].diff() != 1).any())
    return Positions(most, padding if skipped else None)


def tokens(model: nn.Module) -> Tensor:
    """Ten different token ids from the middle of the vocabulary, where words are."""
    config: Any = model.config
    device = next(model.parameters()).device
    numbers = torch.arange(_SHAPE[0] * _SHAPE[1], device=device)
    words = int(config.vocab_size)
    return ((numbers + words // 2) % words).reshape(_SHAPE)


@computing()
def last_states(model: nn.Module, ids: Tensor) -> Tensor:
    """Last hidden states ``[rows, tokens, width]`` of ``ids [rows, tokens]``, all real."""
    output: Any = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    states = output.last_hidden_state
    assert isinstance(states, Tensor)
    return states
