"""What one kind of adapter alone can be told is declared in its own file, and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from expertbank.adapters import ADAPTERS
from expertbank.adapters.by_rows import suited_to
from expertbank.adapters.lora import LoraKind
from expertbank.adapters.uni_lora import SHARED
from expertbank.config import AdapterConfig, TrainConfig
from expertbank.errors import InputError, IntegrityError
from expertbank.settings import check, options_of, pairs_of, setting
from expertbank.testing.adapters import ALPHA, AdapterConformance, learnt, start


@dataclass(frozen=True, slots=True)
class MineSettings:
    depth: int = setting(2, "How deep.", least=1, most=9)
    share: float = setting(0.5, "How much.", above=0, most=1)
    way: str = setting("up", "Which way.")

    def __post_init__(self) -> None:
        check(self)


class Mine(LoraKind):
    name = "mine"
    settings = MineSettings


MINE = Mine()


def test_a_kind_from_outside_declares_settings_and_lineage_has_them_all() -> None:
    wish = AdapterConfig(kind="mine", settings=("depth=3",))
    assert MINE.own(wish) == MineSettings(depth=3)
    settled = MINE.settled(wish)
    assert settled.settings == ("depth=3", "share=0.5", "way=up")
    assert MINE.settled(settled) == settled
    assert MINE.own(settled) == MINE.own(wish)


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ("deph=3", "setting of the adapter mine named 'deph'.*depth"),
        ("depth", "NAME=VALUE, got 'depth'"),
        ("depth=10", "depth must be 1 to 9, got 10"),
        ("depth=x", "depth must be a whole number"),
        ("share=0", "share must be above 0"),
    ],
)
def test_what_it_cannot_be_told_is_refused_by_name(pair: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        MINE.settled(AdapterConfig(kind="mine", settings=(pair,)))


@pytest.mark.parametrize("name", ["tt", "lora"])
def test_a_kind_without_settings_of_its_own_takes_none(name: str) -> None:
    kind = ADAPTERS.get(name)
    assert options_of(kind.settings) == ()
    assert kind.settled(AdapterConfig(kind=name)).settings == ()
    with pytest.raises(InputError, match=f"setting of the adapter {name}.*it has none"):
        kind.settled(AdapterConfig(kind=name, settings=("depth=3",)))


def test_settings_of_the_default_keep_it(bert: Any) -> None:
    spec = bert.default_feature_spec(max_length=32)
    wish = AdapterConfig(settings=("depth=3",))
    assert suited_to(10**6, wish, TrainConfig(), spec, bert) == wish


def shared(share: int) -> Any:
    kind = ADAPTERS.get("uni-lora")
    given = start()
    pairs = (f"share={share}",)
    return learnt(kind.fresh(replace(given, config=replace(given.config, settings=pairs))))


def test_uni_lora_shares_as_often_as_it_is_told_and_its_file_says_so() -> None:
    kind = ADAPTERS.get("uni-lora")
    usual, sparse = shared(SHARED), shared(12)
    assert "share" not in usual.facts(), "files of earlier versions say nothing of it"
    assert usual.parameter_count == pytest.approx(4 * sparse.parameter_count, abs=4)
    again = kind.read(sparse.facts(), sparse.to_tensors(), ALPHA)
    for path, pair in sparse.collapse().items():
        assert all(map(torch.equal, pair, again.collapse()[path]))
    for facts in ({**usual.facts(), "share": 12}, {**sparse.facts(), "share": 0}):
        with pytest.raises((IntegrityError, InputError)):
            kind.read(facts, usual.to_tensors(), ALPHA)


class TestMine(AdapterConformance):
    @pytest.fixture
    def kind(self) -> Mine:
        return MINE


def test_every_setting_can_be_given_again_as_it_is_kept() -> None:
    odd = MineSettings(depth=9, share=1.0, way='a "b": [c')
    kept = AdapterConfig(kind="mine", settings=pairs_of(odd))
    assert MINE.own(kept) == odd
