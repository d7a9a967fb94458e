"""Every promise of ``AdapterKind`` and ``Adapter``, to be run against a kind of one's own.

class TestMyAdapter(AdapterConformance):
    @pytest.fixture
    def kind(self):
        return MY_ADAPTER
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from expertbank.adapters import Adapter, AdapterKind, Start
from expertbank.adapters.targets import Target
from expertbank.backbones.slices import Slices
from expertbank.config import AdapterConfig, TrainConfig
from expertbank.errors import MALFORMED, InputError, IntegrityError
from expertbank.plugins import unlike

ALPHA = 2.0
REFUSED = (IntegrityError, InputError, *MALFORMED)
"""What ``read`` may raise; whoever asks it says which file it was."""
TARGETS = (
    Target("layers.0.query", 0, "query", 24, 24),
    Target("layers.0.value", 0, "value", 24, 12),
    Target("layers.1.both", 1, "query", 24, 24, Slices(72, 1, 72, 0, 24)),
    Target("layers.1.both", 1, "value", 24, 24, Slices(72, 1, 72, 48, 24)),
)
"""Two widths, and one fused module of three roles of which two are adapted."""
WIDTHS = {"layers.0.query": 24, "layers.0.value": 12, "layers.1.both": 72}


def start(seed: int = 0, rank: int | None = None) -> Start:
    """What a fresh adapter of some small projections is made of."""
    weights = torch.Generator().manual_seed(7)
    frozen = {
        one: torch.randn(one.in_features, one.out_features, generator=weights) for one in TARGETS
    }
    config = AdapterConfig(rank=rank)
    return Start(TARGETS, config, ALPHA, torch.Generator().manual_seed(seed), frozen.__getitem__)


def learnt(adapter: Adapter, seed: int = 1) -> Adapter:
    """The adapter with other numbers than it began with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return adapter


class AdapterConformance:
    """An adapter kind's promises as tests; give your subclass a name that begins with ``Test``.

    What must be given: the fixture ``kind``.
    """

    @pytest.fixture
    def kind(self) -> AdapterKind:
        """The kind of adapter."""
        raise NotImplementedError("give the fixture `kind`")

    @pytest.fixture
    def adapter(self, kind: AdapterKind) -> Adapter:
        return learnt(kind.fresh(start()))

    def test_it_can_be_added(self, kind: AdapterKind) -> None:
        assert unlike(kind, AdapterKind) is None

    def test_settled_settings_have_one_size_at_most_and_settle_no_further(
        self, kind: AdapterKind
    ) -> None:
        settled = kind.settled(AdapterConfig(kind=kind.name, alpha=ALPHA))
        assert settled.rank is None or settled.tt_rank is None
        assert kind.settled(settled) == settled

    def test_its_learning_rate_is_one(self, kind: AdapterKind) -> None:
        rate = kind.rate_of(kind.settled(AdapterConfig(kind=kind.name)))
        assert TrainConfig(lr=rate).lr == rate

    def test_a_fresh_adapter_adds_next_to_nothing(self, kind: AdapterKind) -> None:
        given = start()
        smallest = min(float(given.weight_of(target).norm()) for target in TARGETS)
        with torch.no_grad():
            for a, b in kind.fresh(given).collapse().values():
                assert float((a @ b).norm()) <= 0.01 * smallest

    def test_the_same_seed_gives_the_same_adapter_whatever_torch_draws(
        self, kind: AdapterKind
    ) -> None:
        one = kind.fresh(start()).to_tensors()
        torch.manual_seed(17)
        other = kind.fresh(start()).to_tensors()
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_every_module_gets_one_pair_as_wide_as_it_is(self, adapter: Adapter) -> None:
        factors = adapter.collapse()
        assert set(adapter.paths) == set(factors) == set(WIDTHS)
        assert len(adapter.paths) == len(WIDTHS)
        for path, (a, b) in factors.items():
            assert (a.shape[0], b.shape[1]) == (24, WIDTHS[path])
            assert a.shape[1] == b.shape[0] >= 1

    def test_roles_of_a_fused_module_that_are_not_adapted_get_no_update(
        self, adapter: Adapter
    ) -> None:
        a, b = adapter.collapse()["layers.1.both"]
        update = (a @ b).detach()
        assert not update[:, 24:48].any(), "the key"
        assert update[:, :24].any()
        assert update[:, 48:].any()

    def test_all_that_it_counts_is_trained(self, adapter: Adapter) -> None:
        assert adapter.parameter_count == sum(one.numel() for one in adapter.parameters()) > 0
        weigh = torch.Generator().manual_seed(3)
        products = [a @ b for a, b in adapter.collapse().values()]
        loss = sum(
            (product * torch.randn(product.shape, generator=weigh)).sum() for product in products
        )
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        for parameter in adapter.parameters():
            assert parameter.grad is not None
            assert bool(torch.isfinite(parameter.grad).all())
            assert float((parameter.grad != 0).float().mean()) > 0.9

    def test_what_it_stores_reads_back_as_the_same_update(
        self, kind: AdapterKind, adapter: Adapter
    ) -> None:
        tensors, facts = adapter.to_tensors(), json.loads(json.dumps(adapter.facts()))
        assert facts == adapter.facts(), "plain JSON"
        assert not [name for name in tensors if name.startswith("head.")]
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
        again = kind.read(facts, tensors, ALPHA)
        assert again.parameter_count == adapter.parameter_count
        assert again.facts() == facts
        for path, pair in adapter.collapse().items():
            assert all(map(torch.equal, pair, again.collapse()[path]))

    def test_what_it_stored_is_a_copy(self, adapter: Adapter) -> None:
        tensors = adapter.to_tensors()
        before = {name: tensor.clone() for name, tensor in tensors.items()}
        learnt(adapter, 5)
        assert all(torch.equal(tensors[name], before[name]) for name in tensors)

    def test_a_file_with_something_missing_added_or_of_another_shape_is_refused(
        self, kind: AdapterKind, adapter: Adapter
    ) -> None:
        facts, tensors = adapter.facts(), adapter.to_tensors()
        damaged = [{**tensors, "more": torch.zeros(1)}]
        for name in tensors:
            damaged.append({n: t for n, t in tensors.items() if n != name})
            damaged.append({**tensors, name: torch.cat([tensors[name], tensors[name]])})
        for one in damaged:
            with pytest.raises(REFUSED):
                kind.read(facts, one, ALPHA)
        odd: tuple[Any, ...] = (None, 7, [], "x")
        for name in facts:
            for value in odd:
                with pytest.raises(REFUSED):
                    kind.read({**facts, name: value}, tensors, ALPHA)

    def test_a_file_cannot_ask_for_a_module_that_is_adapted_twice(
        self, kind: AdapterKind, adapter: Adapter
    ) -> None:
        with pytest.raises(REFUSED):
            kind.read(_renamed(adapter.facts(), "same"), adapter.to_tensors(), ALPHA)

    def test_ranks_that_users_may_give_are_kept_to(self, kind: AdapterKind) -> None:
        if kind.settled(AdapterConfig(kind=kind.name)).rank is None:
            pytest.skip("this kind has no single rank")
        sizes = []
        for rank in (1, 3):
            adapter = kind.fresh(start(rank=rank))
            assert {a.shape[1] for p, (a, _) in adapter.collapse().items() if "0" in p} == {rank}
            sizes.append(adapter.parameter_count)
        assert sizes[0] < sizes[1]


def _renamed(facts: Any, name: str) -> Any:
    """The facts with every module of the same name."""
    if isinstance(facts, dict):
        return {
            key: [name] * len(value) if key == "paths" else _renamed(value, name)
            for key, value in facts.items()
        }
    return [_renamed(one, name) for one in facts] if isinstance(facts, list) else facts
