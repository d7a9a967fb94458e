"""Trains of other shapes, which ``recipe.py`` tries, are what their names say."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from expertbank import AdapterConfig
from expertbank.adapters import ADAPTERS, Adapter, Start
from expertbank.adapters.targets import Target

Script = Callable[..., ModuleType]
SIZES = {"a": (32, 32), "b": (32, 32), "c": (32, 64)}


def _fresh(kind: str, **size: object) -> Adapter:
    targets = [Target(path, 0, "query", *own) for path, own in SIZES.items()]
    generator = torch.Generator().manual_seed(1)
    wish = AdapterConfig(kind=kind, **size)
    start = Start(targets, wish, 2.0, generator, lambda _: torch.empty(0))
    return ADAPTERS.get(kind).fresh(start)


def _learnt(adapter: Adapter) -> Adapter:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for one in adapter.parameters():
            one.copy_(torch.randn(one.shape, generator=generator))
    return adapter.double()


@pytest.mark.parametrize(
    ("kind", "size", "numbers"),
    [
        ("tt-cut-2", {"tt_rank": (2, 4, 2)}, 3 * (2 * 16 + 16 + 16 + 2 * 16) + 32),
        ("tt-cut-8", {"tt_rank": 2}, 3 * (2 * 4 + 2 * 32) + 2 * 8 + 16),
        ("tt-across", {"rank": 3}, 3 * (64 + 96) + 3 * 9),
        ("tt-across-alike", {"rank": 3}, 3 * (64 + 96) + 3 * 9),
        ("tt-across-16", {"rank": 4}, 3 * 4 + 8 + 4 * 2 * 16 * 4 + 3 * 16),
    ],
)
def test_a_shape_changes_nothing_at_first_has_its_numbers_and_is_read_as_it_was_kept(
    script: Script, kind: str, size: dict[str, object], numbers: int
) -> None:
    script("shapes")
    fresh = _fresh(kind, **size)
    assert fresh.parameter_count == numbers
    for path, (a, b) in fresh.collapse().items():
        assert (len(a), b.shape[1]) == SIZES[path]
        assert a.any()
        assert not b.any()
    learnt = _learnt(fresh)
    again = ADAPTERS.get(kind).read(learnt.facts(), learnt.to_tensors(), 2.0)
    for path, pair in again.collapse().items():
        for one, other in zip(pair, learnt.collapse()[path], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", ["tt-across", "tt-across-16"])
def test_a_train_across_is_one_frame_with_a_core_for_each_projection(
    script: Script, kind: str
) -> None:
    """The reference contracts the cores index by index, in another order."""
    script("shapes")
    adapter = _learnt(_fresh(kind, rank=4))
    tensors = adapter.to_tensors()
    for path, group, place in (("a", 0, 0), ("b", 0, 1), ("c", 1, 0)):
        if kind == "tt-across":
            u, v = tensors[f"u.{group}.0"], tensors[f"v.{group}.0"]
        else:
            u = torch.einsum("ir,rjk->ijk", tensors[f"u.{group}.0"], tensors[f"u.{group}.1"])
            v = torch.einsum("kjr,ri->kji", tensors[f"v.{group}.0"], tensors[f"v.{group}.1"])
            u, v = u.reshape(-1, u.shape[-1]), v.reshape(len(v), -1)
        wanted = 2.0 * torch.einsum("ik,kl,lj->ij", u, tensors[f"c.{group}"][place], v)
        a, b = adapter.collapse()[path]
        torch.testing.assert_close(a @ b, wanted)
