"""Adding an update to a frozen projection's output, by forward hook.

Two ways, for two needs. Training binds one expert's live factors to modules of its own
(``Backbone.view``): autograd may recompute a layer on another thread, where a context variable
is not seen, and calls on the backbone itself see nothing of it. Inference reads the choice of
the running call from a ``ContextVar``, so concurrent calls on one backbone cannot see each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Update = Callable[[Tensor], Tensor]
"""``x [batch, tokens, in]`` to the update ``[batch, tokens, out]``."""

_updates: ContextVar[Mapping[nn.Module, Update] | None] = ContextVar("updates", default=None)


def _add_current(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    updates = _updates.get()
    update = updates.get(module) if updates else None
    return None if update is None else output + update(inputs[0])


def install(projection: nn.Module) -> None:
    """Make ``projection`` listen to ``applied``; doing it twice is harmless."""
    if _add_current not in projection._forward_hooks.values():
        projection.register_forward_hook(_add_current)


@contextmanager
def applied(updates: Mapping[nn.Module, Update]) -> Iterator[None]:
    """Within the block, and in this thread or task only, listening projections add updates.

    ``updates`` may be filled while the block runs: the router decides half-way up.
    """
    token = _updates.set(updates)
    try:
        yield
    finally:
        _updates.reset(token)


def bind(
    model: nn.Module,
    factors: Callable[[], Mapping[str, tuple[Tensor, Tensor]]],
    paths: Sequence[str],
) -> list[RemovableHandle]:
    """Make projections at ``paths`` add ``(x A) B`` from ``factors()``, whoever calls them.

    ``factors`` is asked at every call, so it should return the step's collapsed cores; they are
    cast to the type of ``x``. Every caller of ``model`` gets the update, on any thread: for a
    model that others use meanwhile, bind to modules of your own (``Backbone.view``).
    """

    def hook_for(path: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            x: Tensor = inputs[0]
            a, b = factors()[path]
            return output + (x @ a.to(x.dtype)) @ b.to(x.dtype)

        return hook

    return [model.get_submodule(path).register_forward_hook(hook_for(path)) for path in paths]


@contextmanager
def bound(
    model: nn.Module,
    factors: Callable[[], Mapping[str, tuple[Tensor, Tensor]]],
    paths: Sequence[str],
) -> Iterator[None]:
    """``bind`` within the block only."""
    handles = bind(model, factors, paths)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
