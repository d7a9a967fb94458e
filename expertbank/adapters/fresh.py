"""Whether a fresh adapter fits the modules that it is for, before anything is trained.

A kind may come from anywhere. One that lies about widths, or begins with numbers that are none,
would otherwise end training somewhere inside of the model, in words about the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from expertbank.adapters.adapter import Adapter
from expertbank.adapters.targets import Target
from expertbank.backbones.recognise import linear_shape
from expertbank.errors import InputError


@torch.no_grad()
def require_pairs_that_fit(
    kind: str, adapter: Adapter, model: nn.Module, targets: Sequence[Target]
) -> None:
    """Refuse an adapter that has not one finite pair, as wide as the module, for each module.

    Args:
        kind: the adapter's name.
        adapter: a fresh one.
        model: the backbone.
        targets: what it was made for.

    Raises:
        InputError: the message says what is wrong with it.
    """
    pairs, paths = adapter.collapse(), {target.path for target in targets}
    why = ""
    if set(pairs) != paths or sorted(adapter.paths) != sorted(paths):
        why = f"it adapts {sorted(pairs)}, and was made for {sorted(paths)}"
    for path in sorted(paths & set(pairs)):
        a, b = pairs[path]
        wide_in, wide_out = linear_shape(model.get_submodule(path)) or (len(a), b.shape[-1])
        if a.shape != (wide_in, a.shape[-1]) or b.shape != (a.shape[-1], wide_out):
            why = (
                f"its factors of {path} are {list(a.shape)} and {list(b.shape)}, and belong "
                f"[{wide_in}, r] and [r, {wide_out}]"
            )
        elif not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
            why = f"its factors of {path} hold numbers that are not finite"
        if why:
            break
    if why:
        raise InputError(
            f"the adapter {kind} is defective: {why}; choose another with --adapter, and tell its "
            "authors"
        )
