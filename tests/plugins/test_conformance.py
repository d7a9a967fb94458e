"""Every kind, gate and adapter, ours and the sample's, keeps what plugins are held to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from expertbank_sample.knn import KNN
from expertbank_sample.ordinal import ORDINAL
from expertbank_sample.share_lora import SHARE_LORA

from expertbank import Row
from expertbank.adapters import ADAPTERS, AdapterKind
from expertbank.config import NO_ADAPTER
from expertbank.kinds import KINDS, Kind
from expertbank.routing.gates import GATES, GateKind
from expertbank.testing.adapters import AdapterConformance
from expertbank.testing.gates import GateConformance
from expertbank.testing.kinds import KindConformance
from expertbank.testing.kinds_that_write import WritingKindConformance

CHOICES = ("milk", "tea", "salt")
ROWS = {
    "classification": [Row("one", label="a"), Row("two", label="b"), Row("three", label="c")],
    "multi_label": [Row("one", label='["a","b"]'), Row("two", label="[]"), Row("x", label='["c"]')],
    "multiple_choice": [Row("one", None, CHOICES, label=place) for place in "0121"],
    "regression": [Row("one", label="1.5"), Row("two", label="-2"), Row("three", label="30")],
}


class TestKind(KindConformance):
    @pytest.fixture(params=[name for name in KINDS.own if KINDS.get(name).has_head])
    def kind(self, request: pytest.FixtureRequest) -> Kind:
        return KINDS.get(request.param)

    @pytest.fixture
    def rows(self, kind: Kind) -> Sequence[Row]:
        return ROWS[kind.name]


class TestGeneration(WritingKindConformance):
    @pytest.fixture
    def kind(self) -> Kind:
        return KINDS.get("generation")

    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        return [Row("one", label="the answer"), Row("two", "more", label="another, longer one")]


class TestOrdinal(KindConformance):
    @pytest.fixture
    def kind(self) -> Kind:
        return ORDINAL

    @pytest.fixture
    def rows(self) -> Sequence[Row]:
        return [Row("one", label="bad"), Row("two", label="fine"), Row("three", label="good")]


class TestGate(GateConformance):
    @pytest.fixture(params=GATES.own)
    def kind(self, request: pytest.FixtureRequest) -> GateKind[Any]:
        return GATES.get(request.param)


class TestKnn(GateConformance):
    @pytest.fixture
    def kind(self) -> GateKind[Any]:
        return KNN


class TestAdapter(AdapterConformance):
    @pytest.fixture(params=[name for name in ADAPTERS.own if name != NO_ADAPTER])
    def kind(self, request: pytest.FixtureRequest) -> AdapterKind:
        return ADAPTERS.get(request.param)


class TestShareLora(AdapterConformance):
    @pytest.fixture
    def kind(self) -> AdapterKind:
        return SHARE_LORA
