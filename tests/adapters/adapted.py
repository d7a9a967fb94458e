"""Random adapters with a visible effect, and the dense model they must equal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from expertbank.adapters.stack import CollapsedExpert
from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import Factors, TTAdapter, group_targets
from expertbank.backbones.backbone import Backbone


def random_adapter(
    backbone: Backbone,
    seed: int,
    *,
    route_layer: int = 2,
    rank: int = 3,
    alpha: float = 4.0,
    roles: Sequence[str] | None = None,
    dtype: torch.dtype = torch.float32,
) -> TTAdapter:
    """An adapter whose every core is random, the last one too."""
    generator = torch.Generator().manual_seed(seed)
    targets = find_targets(backbone.model, backbone.family, route_layer, roles)
    adapter = TTAdapter.fresh(group_targets(targets, rank), alpha, generator)
    with torch.no_grad():
        for core in adapter.parameters():
            core.copy_(torch.randn(core.shape, generator=generator) * 0.5)
    return adapter.to(dtype)


def random_expert(
    backbone: Backbone, name: str, seed: int, *, classes: int = 2, **wishes
) -> CollapsedExpert:
    """A random adapter with a random head, collapsed."""
    generator = torch.Generator().manual_seed(seed + 1000)
    with torch.no_grad():
        factors = random_adapter(backbone, seed, **wishes).collapse()
    width = backbone.hidden_size
    return CollapsedExpert(
        f"{name}@1",
        factors,
        torch.randn(classes, width, generator=generator) / width**0.5,
        torch.randn(classes, generator=generator),
        pooling=backbone.family.pooling,
    )


def change_weights(backbone: Backbone, factors: Factors) -> None:
    """Put ``A·B`` into the weights themselves."""
    with torch.no_grad():
        for path, (a, b) in factors.items():
            module = backbone.model.get_submodule(path)
            # nn.Linear keeps [out, in], GPT-2's Conv1D [in, out].
            module.weight += (a @ b).T if isinstance(module, nn.Linear) else a @ b


def all_states(backbone: Backbone, ids: Tensor) -> tuple[Tensor, ...]:
    """Every hidden state of a plain pass of the whole model."""
    with torch.no_grad():
        return backbone.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True
        ).hidden_states
