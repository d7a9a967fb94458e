"""What is trained where nobody says: by width, by rows, and at a rate that suits the rank."""

from __future__ import annotations

from typing import Any

import pytest
from tiny import spec_of
from torch import nn

from expertbank.adapters.by_rows import suited_to
from expertbank.config import MANY_ROWS, RANK_OF_MANY, AdapterConfig, TrainConfig
from expertbank.training.job import rate_of, settled

FEW, OPEN = MANY_ROWS - 1, (AdapterConfig(), TrainConfig())


def test_more_rows_get_a_higher_rank_at_the_rate_that_was_chosen_with_it(bert) -> None:
    spec = spec_of(bert)
    few, rate = settled(*OPEN, spec, bert, FEW)
    assert (few.kind, few.tt_rank, few.rank, few.alpha, rate.lr) == ("tt", None, None, 4.0, 5e-3)
    many, rate = settled(*OPEN, spec, bert, MANY_ROWS)
    assert (many.kind, many.rank, many.alpha, rate.lr) == ("lora", RANK_OF_MANY, 4.0, 2e-3)
    assert settled(many, rate, spec, bert, FEW) == (many, rate), "decided once"


@pytest.mark.parametrize(
    ("adapter", "train"),
    [
        ({"kind": "uni-lora"}, {}),
        ({"kind": "lora", "rank": 2}, {}),
        ({"tt_rank": 3}, {}),
        ({"tt_rank": (2, 3, 2)}, {}),
        ({"rank": 8}, {}),
        ({"alpha": 16.0}, {}),
        ({}, {"lr": 5e-3}),
    ],
)
def test_what_was_named_stays_whatever_the_rows(
    bert, adapter: dict[str, Any], train: dict[str, Any]
) -> None:
    wish = AdapterConfig(**adapter)
    assert suited_to(10**6, wish, TrainConfig(**train), spec_of(bert), bert) == wish


def test_the_multiplier_of_the_papers_way_keeps_rank_1(bert) -> None:
    paper = spec_of(bert, 0, states=(len(bert.layers),), poolings=("last",))
    assert suited_to(10**6, *OPEN, paper, bert) == AdapterConfig()


def test_other_wishes_keep_their_place_with_many_rows(bert) -> None:
    wish = AdapterConfig(pooling="first", modules=("dense",), first_layer=0)
    found = suited_to(MANY_ROWS, wish, TrainConfig(), spec_of(bert), bert)
    assert (found.kind, found.rank) == ("lora", RANK_OF_MANY)
    assert (found.pooling, found.modules, found.first_layer) == ("first", ("dense",), 0)


def test_where_a_train_has_fewer_numbers_than_rank_1_it_stays(bert, monkeypatch) -> None:
    for layer in bert.layers:
        for name in ("query", "value"):
            monkeypatch.setattr(layer.attention.self, name, nn.Linear(1024, 1024))
    assert suited_to(10**6, *OPEN, spec_of(bert), bert) == AdapterConfig()


@pytest.mark.parametrize(
    ("adapter", "rate"),
    [
        ({}, 5e-3),
        ({"tt_rank": 8}, 5e-3),
        ({"kind": "uni-lora"}, 5e-3),
        ({"kind": "lora", "rank": 1}, 5e-3),
        ({"kind": "lora", "rank": 2}, 2e-3),
        ({"kind": "lora", "rank": 4}, 2e-3),
        ({"kind": "lora"}, 1e-3),
        ({"kind": "lora", "rank": 16}, 1e-3),
    ],
)
def test_a_rate_that_nobody_names_suits_the_kind_and_its_rank(
    adapter: dict[str, Any], rate: float
) -> None:
    assert rate_of(TrainConfig(), AdapterConfig(**adapter)) == rate
    assert rate_of(TrainConfig(lr=0.25), AdapterConfig(**adapter)) == 0.25
