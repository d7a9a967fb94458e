"""Adding an update to a frozen projection's output, by forward hook.

Two ways, for two needs. Training binds one expert's live factors to modules of its own
(``Backbone.view``): autograd may recompute a layer on another thread, where a context variable
is not seen, and calls on the backbone itself see nothing of it. Inference reads the choice of
the running call from a ``ContextVar``, so concurrent calls on one backbone cannot see each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from expertbank.errors import UnsupportedModelError

SKIPPED = (
    "hooks of the backbone were skipped. It was compiled and run before the experts were attached, "
    "and its graphs know no hooks; run it uncompiled, or call torch.compiler.reset() first"
)

Update = Callable[[Tensor], Tensor]
"""``x [batch, tokens, in]`` to the update ``[batch, tokens, out]``."""

_updates: ContextVar[tuple[Mapping[nn.Module, Update], dict[nn.Module, int]] | None] = ContextVar(
    "updates", default=None
)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it unannotated
def _add_current(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
    # Never traced: a graph would keep the context variable's value of the call it was made in.
    current = _updates.get()
    if current is None:
        return None
    updates, added = current
    update = updates.get(module)
    if update is None:
        return None
    added[module] = added.get(module, 0) + 1
    return output + update(inputs[0])


def install(projection: nn.Module) -> None:
    """Make ``projection`` listen to ``applied``; doing it twice is harmless.

    In a model that may be compiled, install on the same projections of *every* layer: layers
    share graphs, and dynamo does not guard on there being no hook
    (``torch._dynamo.config.skip_nnmodule_hook_guards``), so the graph of a layer without would be
    used for a layer with one. ``require_added`` tells whether the updates took part.
    """
    if _add_current not in projection._forward_hooks.values():
        projection.register_forward_hook(_add_current)


@contextmanager
def applied(updates: Mapping[nn.Module, Update]) -> Iterator[Mapping[nn.Module, int]]:
    """Within the block, and in this thread or task only, listening projections add updates.

    ``updates`` may be filled while the block runs: the router decides half-way up.

    Yields:
        How often each projection has added its update so far.
    """
    added: dict[nn.Module, int] = {}
    token = _updates.set((updates, added))
    try:
        yield added
    finally:
        _updates.reset(token)


def require_added(updates: Mapping[nn.Module, Update], added: Mapping[nn.Module, int]) -> None:
    """Refuse an answer in which an update did not take part, rather than give it unadapted.

    Args:
        updates: what was applied.
        added: what ``applied`` counted.

    Raises:
        UnsupportedModelError: a projection ran without its hook.
    """
    silent = sum(module not in added for module in updates)
    if silent:
        raise UnsupportedModelError(
            f"{silent} of {len(updates)} adapted projections ran without their updates: {SKIPPED}"
        )


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
    with ExitStack() as hooked:
        for handle in bind(model, factors, paths):
            hooked.enter_context(handle)
        yield
