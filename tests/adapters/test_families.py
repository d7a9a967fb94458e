"""In every family an update reaches the query and value that attention reads, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch
from adapted import all_states, change_weights, random_adapter
from tiny import SUPPORTED, UNLISTED
from torch import Tensor
from torch.nn import functional

from expertbank.adapters import hooks
from expertbank.adapters.targets import find_targets
from expertbank.backbones.backbone import Backbone

IDS = torch.tensor([[2, 5, 9, 11, 3, 6, 7, 12, 19, 20], [2, 8, 30, 17, 3, 22, 23, 9, 10, 11]])
FUSED = (
    "modernbert",
    "phi3",
    "gpt2",
    "gpt_neox",
    "bloom",
    "falcon",
    "falcon with one key",
    "falcon with a key a head",
    "gpt_bigcode",
)


@pytest.mark.parametrize("family", [*SUPPORTED, *UNLISTED])
def test_the_update_equals_changed_weights_and_leaves_the_trunk_alone(
    load_tiny, family: str
) -> None:
    adapted, changed, bare = load_tiny(family), load_tiny(family), load_tiny(family)
    for backbone in (adapted, changed, bare):
        backbone.model.double()
    adapter = random_adapter(adapted, 3, dtype=torch.float64)
    with torch.no_grad():
        factors = adapter.collapse()
    change_weights(changed, factors)
    with hooks.bound(adapted.model, lambda: factors, list(factors)):
        found = all_states(adapted, IDS)
    expected, plain = all_states(changed, IDS), all_states(bare, IDS)
    for state in range(3):  # the inputs of layers 0, 1 and 2: the trunk
        assert torch.equal(found[state], plain[state])
    # Some families normalise in float32 whatever the type of their weights.
    torch.testing.assert_close(found[-1], expected[-1], rtol=1e-6, atol=1e-6)
    assert (found[-1] - plain[-1]).abs().max() > 1e-2, "the adapter is meant to be seen"


Heads = tuple[Tensor, Tensor, Tensor]
"""Query, key and value as attention gets them, each ``[batch, heads, tokens, head size]``."""


def attention_reads(backbone: Backbone, layer: int) -> Heads:
    """What layer ``layer``'s attention itself multiplies: no knowledge of columns goes in."""
    seen: list[Heads] = []

    def recording(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def record(query: Tensor, key: Tensor, value: Tensor, *rest: object, **named: object):
            seen.append((query, key, value))
            return function(query, key, value, *rest, **named)

        return record

    with ExitStack() as stack:
        if backbone.model.config.model_type == "bloom":  # it multiplies by hand
            attention = backbone.layers[layer].self_attention
            split = attention._reshape

            def record(fused: Tensor) -> Heads:
                seen.append(split(fused))
                return seen[-1]

            stack.enter_context(patch.object(attention, "_reshape", record))
            layer = 0
        else:
            original = functional.scaled_dot_product_attention
            stack.enter_context(
                patch.object(functional, "scaled_dot_product_attention", recording(original))
            )
        all_states(backbone, IDS)
    return seen[layer]


@pytest.mark.parametrize("family", FUSED)
@pytest.mark.parametrize("role", ["query", "key", "value"])
def test_a_fused_projections_update_reaches_its_own_role_only(
    load_tiny, family: str, role: str
) -> None:
    backbone = load_tiny(family)
    assert find_targets(backbone.model, backbone.family, 3)[0].columns is not None
    with torch.no_grad():
        factors = random_adapter(backbone, 3, route_layer=3, roles=(role,)).collapse()
    plain = dict(zip(("query", "key", "value"), attention_reads(backbone, 3), strict=True))
    with hooks.bound(backbone.model, lambda: factors, list(factors)):
        found = dict(zip(plain, attention_reads(backbone, 3), strict=True))
    for name in plain:
        assert torch.equal(found[name], plain[name]) == (name != role)
    difference = (found[role] - plain[role]).abs().amax(dim=(0, 2))
    assert (difference > 1e-4).all(), "every column of every head takes part"


@pytest.mark.parametrize("family", FUSED)
def test_the_value_attention_reads_is_the_backbones_plus_the_cores_own_product(
    load_tiny, family: str
) -> None:
    backbone = load_tiny(family)
    values = random_adapter(backbone, 5, route_layer=3, roles=("value",))
    ((path, (a, b)),) = values.collapse().items()
    (slot,) = values.groups[0].slots
    assert slot.columns is not None
    inputs: list[Tensor] = []
    handle = backbone.model.get_submodule(path).register_forward_pre_hook(
        lambda module, args: inputs.append(args[0])
    )
    plain = attention_reads(backbone, 3)[2]
    handle.remove()
    with torch.no_grad(), hooks.bound(backbone.model, values.collapse, [path]):
        found = attention_reads(backbone, 3)[2]
    size = found.shape[-1]
    # The value's own output [batch, tokens, heads · size], before it is put among the columns.
    own = inputs[0] @ a @ slot.columns.take(b)
    expected = own.unflatten(-1, (-1, size)).transpose(1, 2)
    expected = expected.repeat_interleave(found.shape[1] // expected.shape[1], dim=1)
    torch.testing.assert_close(found - plain, expected, rtol=1e-3, atol=1e-4)
