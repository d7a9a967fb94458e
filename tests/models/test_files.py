"""Experts, routers and features as bytes: equal contents, equal bytes; anything else is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from expertbank.adapters import ADAPTERS, Start
from expertbank.adapters.stack import Resident
from expertbank.adapters.targets import Target, find_targets, weight_of
from expertbank.adapters.tt import TTAdapter, group_targets
from expertbank.config import AdapterConfig, canonical_json
from expertbank.errors import IntegrityError, NotFoundError
from expertbank.files.header import METADATA_KEY
from expertbank.files.tensors import read_safetensors
from expertbank.models.expert_file import ExpertFile
from expertbank.records import RowShape
from expertbank.routing.columns import Member
from expertbank.routing.distance import DistanceModel
from expertbank.routing.feature_file import FeatureFile
from expertbank.routing.gates.layers import Layer, LayeredGate
from expertbank.routing.grid import STEP, Grid, on_grid
from expertbank.routing.router import Router


@pytest.fixture
def expert(bert) -> ExpertFile:
    generator = torch.Generator().manual_seed(0)
    groups = group_targets(find_targets(bert.model, bert.family, 2, ("query", "value")), 3)
    adapter = TTAdapter.fresh(groups, 16.0, generator)
    head = {
        "head.weight": torch.randn(3, 32, generator=generator),
        "head.bias": torch.randn(3, generator=generator),
    }
    return ExpertFile(
        "weather",
        "classification",
        ("fair", "foul", "été"),
        "tt",
        adapter.facts(),
        16.0,
        "a" * 64,
        bert.digest,
        adapter.to_tensors() | head,
        "mean",
    )


@pytest.fixture
def router() -> Router:
    generator = torch.Generator().manual_seed(0)
    members = tuple(
        Member(
            f"t{i}@1",
            str(i) * 64,
            f"t{i}",
            "multiple_choice" if i == 1 else "classification",
            i,
            ("choices",) if i == 1 else ("single",),
        )
        for i in range(3)
    )
    weight = torch.randn(4, 3, generator=generator)
    layer = Layer(weight, torch.randn(3, generator=generator))
    within, means, overall, centre = (
        torch.randn(size, generator=generator) for size in ((4, 4), (3, 4), (4, 4), (4,))
    )
    unknown = DistanceModel(4, "unknown", 1.5, True, within, means, overall, centre)
    return Router("ridge", members, "b" * 64, 0.5, LayeredGate((layer,)), unknown)


@pytest.fixture
def deep(router: Router) -> Router:
    """The same members behind a gate with a hidden layer, and no unknown statistics."""
    generator = torch.Generator().manual_seed(1)
    layers = tuple(
        Layer(torch.randn(into, out, generator=generator), torch.randn(out, generator=generator))
        for into, out in ((4, 5), (5, 3))
    )
    return replace(router, kind="mlp", gate=LayeredGate(layers), unknown=None)


def features() -> FeatureFile:
    generator = torch.Generator().manual_seed(0)
    train = (on_grid(torch.randn(5, 4, generator=generator)) * STEP).half()
    evaluation = (on_grid(torch.randn(2, 4, generator=generator)) * STEP).half()
    train_shapes: tuple[RowShape, ...] = ("pair", "single", "pair", "single", "pair")
    return FeatureFile(train, evaluation, train_shapes, ("pair", "pair"), "c" * 64)


def rewritten(
    data: bytes,
    *,
    tensors: Callable[[dict[str, Tensor]], Any] = len,
    metadata: Callable[[dict[str, Any]], Any] = len,
) -> bytes:
    """The file with its tensors or metadata edited, sound as a safetensors file."""
    parts, facts = read_safetensors(data, "test")
    tensors(parts)
    metadata(facts)
    return save(parts, metadata={METADATA_KEY: canonical_json(facts)})


def test_rewriting_without_an_edit_gives_the_same_bytes(expert: ExpertFile) -> None:
    assert rewritten(expert.to_bytes()) == expert.to_bytes()


def test_an_expert_survives_being_written_and_read(expert: ExpertFile) -> None:
    again = ExpertFile.from_bytes(expert.to_bytes(), "test")
    assert again.to_bytes() == expert.to_bytes()
    same = ("task", "kind", "labels", "adapter_kind", "adapter_facts", "alpha", "pooling")
    for field in (*same, "feature_spec_digest"):
        assert getattr(again, field) == getattr(expert, field)
    assert again.backbone_digest == expert.backbone_digest
    assert all(torch.equal(again.tensors[name], expert.tensors[name]) for name in expert.tensors)


@pytest.mark.parametrize("size", [7, 16, 127, 32])
def test_an_expert_of_any_width_is_served_without_gradients(expert: ExpertFile, size: int) -> None:
    """A width of one factor makes one core, which is served as it is."""
    groups = group_targets([Target("proj", 0, "proj", size, size)], 2)
    adapter = TTAdapter.fresh(groups, 1.0, torch.Generator().manual_seed(0))
    cores = adapter.to_tensors()
    head = {"head.weight": torch.ones(3, size), "head.bias": torch.ones(3)}
    narrow = replace(expert, adapter_facts=adapter.facts(), tensors=cores | head)
    served = Resident.of(narrow.collapse("narrow@1", torch.device("cpu"), torch.float32))
    assert not served.data.requires_grad
    dense = narrow.adapter().collapse()["proj"]
    for ours, theirs in zip(served.expert.factors["proj"], dense, strict=True):
        torch.testing.assert_close(ours, theirs.detach())


def test_equal_contents_give_equal_bytes_in_any_order(expert: ExpertFile) -> None:
    backwards = dict(reversed(expert.tensors.items()))
    fields = {name: getattr(expert, name) for name in ExpertFile.__dataclass_fields__}
    assert ExpertFile(**{**fields, "tensors": backwards}).to_bytes() == expert.to_bytes()


def test_files_carry_one_metadata_key(expert: ExpertFile, router: Router) -> None:
    for data in (expert.to_bytes(), router.to_bytes(), features().to_bytes()):
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert list(header["__metadata__"]) == [METADATA_KEY]


def put_nan(tensors: dict[str, Tensor], name: str) -> None:
    tensors[name].view(-1)[0] = float("nan")


def in_columns(metadata: dict[str, Any], columns: list[Any], *, twice: bool = False) -> None:
    """Claim that the four projections are parts of fused ones; ``twice``: of two, not four."""
    (group,) = metadata["groups"]
    group["columns"] = columns
    if twice:
        group["paths"] = [group["paths"][0]] * 2 + [group["paths"][1]] * 2


EXPERT_DAMAGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "a missing core": {"tensors": lambda t: t.pop("cores.0.0")},
    "a missing head": {"tensors": lambda t: t.pop("head.bias")},
    "an extra tensor": {"tensors": lambda t: t.update(extra=torch.zeros(1))},
    "an alpha beyond all numbers": {"metadata": lambda m: m.update(alpha=10**400)},
    "a core of another shape": {"tensors": lambda t: t.update({"cores.0.0": torch.zeros(1, 2)})},
    "a head of another shape": {"tensors": lambda t: t.update({"head.weight": torch.zeros(2, 32)})},
    "a NaN in a core": {"tensors": lambda t: put_nan(t, "cores.0.1")},
    "a NaN in the head": {"tensors": lambda t: put_nan(t, "head.weight")},
    "cores in half precision": {
        "tensors": lambda t: t.update({"cores.0.0": t["cores.0.0"].half()})
    },
    "a label too many": {"metadata": lambda m: m["labels"].append("more")},
    "another format": {"metadata": lambda m: m.update(format=9)},
    "no task": {"metadata": lambda m: m.pop("task")},
    "ranks that cannot be": {"metadata": lambda m: m["groups"][0].update(ranks=[1, 9999, 3, 3, 1])},
    "ranks of zero": {"metadata": lambda m: m["groups"][0].update(ranks=[1, 0, 0, 0, 1])},
    "ranks that are no whole numbers": {
        "metadata": lambda m: m["groups"][0].update(ranks=[1, 3.0, 3.0, 3.0, 1])
    },
    "ranks that are words": {"metadata": lambda m: m["groups"][0].update(ranks="abcde")},
    "groups that are no list": {"metadata": lambda m: m.update(groups=7)},
    "a path too many": {"metadata": lambda m: m["groups"][0]["paths"].append("elsewhere")},
    "an alpha that is no number": {"metadata": lambda m: m.update(alpha=float("nan"))},
    "an infinite alpha": {"metadata": lambda m: m.update(alpha=float("inf"))},
    "no pooling": {"metadata": lambda m: m.pop("pooling")},
    "an unknown pooling": {"metadata": lambda m: m.update(pooling="max")},
    "a pooling that is a list": {"metadata": lambda m: m.update(pooling=["mean"])},
    "a path twice": {"metadata": lambda m: m["groups"][0].update(paths=["same"] * 4)},
    "columns for some paths only": {"metadata": lambda m: in_columns(m, [None])},
    "columns of other cores": {"metadata": lambda m: in_columns(m, [[96, 1, 96, 0, 16]] * 4)},
    "columns out of range": {"metadata": lambda m: in_columns(m, [[96, 1, 96, 80, 32]] * 4)},
    "columns below zero": {"metadata": lambda m: in_columns(m, [[96, 1, 96, -8, 32]] * 4)},
    "no columns at all": {"metadata": lambda m: in_columns(m, [[96, 1, 96, 0, 0]] * 4)},
    "half a column": {"metadata": lambda m: in_columns(m, [[96, 1, 96, 0.5, 32]] * 4)},
    "a column that is a truth": {"metadata": lambda m: in_columns(m, [[96, True, 96, 0, 32]] * 4)},
    "stretches that do not fill the width": {
        "metadata": lambda m: in_columns(m, [[96, 4, 23, 0, 8]] * 4)
    },
    "columns as wide as the memory": {
        "metadata": lambda m: in_columns(m, [[2**40, 1, 2**40, 0, 32]] * 4)
    },
    "columns of four numbers": {"metadata": lambda m: in_columns(m, [[96, 1, 96, 0]] * 4)},
    "columns that overlap": {
        "metadata": lambda m: in_columns(m, [[96, 1, 96, i % 2, 32] for i in range(4)], twice=True)
    },
    "columns divided in two ways": {
        "metadata": lambda m: in_columns(
            m, [[96, 1, 96, 0, 32], [96, 3, 32, 0, 32]] * 2, twice=True
        )
    },
    "a path with columns and without": {
        "metadata": lambda m: in_columns(m, [[96, 1, 96, 0, 32], None] * 2, twice=True)
    },
    "cores that collapse to more than the memory": {
        "metadata": lambda m: m["groups"][0].update(in_factors=[2**20, 2**20])
    },
}


@pytest.fixture
def lora(expert: ExpertFile, bert) -> ExpertFile:
    targets = find_targets(bert.model, bert.family, 2)
    wish = AdapterConfig(kind="lora", rank=2)
    generator = torch.Generator().manual_seed(1)
    adapter = ADAPTERS.get("lora").fresh(
        Start(targets, wish, 16.0, generator, partial(weight_of, bert.model))
    )
    head = {name: one for name, one in expert.tensors.items() if name.startswith("head.")}
    return replace(
        expert,
        adapter_kind="lora",
        adapter_facts=adapter.facts(),
        tensors=adapter.to_tensors() | head,
    )


ADAPTER_DAMAGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "no adapter": {"metadata": lambda m: m.pop("adapter")},
    "an adapter that is a list": {"metadata": lambda m: m.update(adapter=[1])},
    "an adapter without a kind": {"metadata": lambda m: m["adapter"].pop("kind")},
    "no groups": {"metadata": lambda m: m["adapter"].pop("groups")},
    "a train that says it is another kind": {"metadata": lambda m: m["adapter"].update(kind="tt")},
    "a LoRA that says it is one vector": {
        "metadata": lambda m: m["adapter"].update(kind="uni-lora")
    },
    "a factor missing": {"tensors": lambda t: t.pop("cores.0.0")},
    "a factor too many": {"tensors": lambda t: t.update({"cores.0.2": torch.zeros(1)})},
    "a head that is none": {"tensors": lambda t: t.update({"head.more": torch.zeros(1)})},
    "a format of trains": {"metadata": lambda m: m.update(format=1)},
}


def test_an_expert_of_another_kind_survives_being_written_and_read(lora: ExpertFile) -> None:
    data = lora.to_bytes()
    again = ExpertFile.from_bytes(data, "test")
    assert again.to_bytes() == data
    assert again.adapter_kind == "lora"
    for path, pair in lora.adapter().collapse().items():
        assert all(map(torch.equal, pair, again.adapter().collapse()[path]))


@pytest.mark.parametrize("damage", ADAPTER_DAMAGES)
def test_a_file_of_another_kind_that_is_not_right_is_refused(lora: ExpertFile, damage: str) -> None:
    data = rewritten(lora.to_bytes(), **ADAPTER_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        ExpertFile.from_bytes(data, "somewhere")


@pytest.fixture
def foreign(lora: ExpertFile) -> ExpertFile:
    """A head that was trained elsewhere: unscaled, behind a dense layer."""
    generator = torch.Generator().manual_seed(2)
    layer = {
        "head.dense.weight": torch.randn(32, 32, generator=generator),
        "head.dense.bias": torch.randn(32, generator=generator),
    }
    tensors = {**lora.tensors, **layer}
    return replace(lora, tensors=tensors, pooling="first", scaled=False, dense="tanh")


READING_DAMAGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "no reading": {"metadata": lambda m: m.pop("reading")},
    "a reading that is a list": {"metadata": lambda m: m.update(reading=[False, "tanh"])},
    "a reading of the format before": {"metadata": lambda m: m.update(format=2)},
    "a scale that is a number": {"metadata": lambda m: m["reading"].update(scaled=0)},
    "an unknown activation": {"metadata": lambda m: m["reading"].update(dense="exec")},
    "no dense layer in the reading": {"metadata": lambda m: m["reading"].update(dense=None)},
    "no dense layer in the tensors": {"tensors": lambda t: t.pop("head.dense.weight")},
    "a dense layer of another width": {
        "tensors": lambda t: t.update({"head.dense.weight": torch.zeros(32, 16)})
    },
    "a dense bias of another width": {
        "tensors": lambda t: t.update({"head.dense.bias": torch.zeros(16)})
    },
    "a NaN in the dense layer": {"tensors": lambda t: put_nan(t, "head.dense.weight")},
}


def test_a_head_from_elsewhere_survives_being_written_and_read(foreign: ExpertFile) -> None:
    again = ExpertFile.from_bytes(foreign.to_bytes(), "test")
    assert again.to_bytes() == foreign.to_bytes()
    assert (again.pooling, again.scaled, again.dense) == ("first", False, "tanh")
    assert again.head_params == 3 * 32 + 3 + 32 * 32 + 32


@pytest.mark.parametrize("damage", READING_DAMAGES)
def test_a_head_from_elsewhere_that_is_not_right_is_refused(
    foreign: ExpertFile, damage: str
) -> None:
    data = rewritten(foreign.to_bytes(), **READING_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        ExpertFile.from_bytes(data, "somewhere")


def test_columns_that_fit_are_read(expert: ExpertFile) -> None:
    """The damages below are refused for what they are, not for being columns."""
    columns = [[96, 1, 96, 64 * (i % 2), 32] for i in range(4)]
    data = rewritten(expert.to_bytes(), metadata=lambda m: in_columns(m, columns, twice=True))
    file = ExpertFile.from_bytes(data, "test")
    assert file.to_bytes() == data
    for a, b in file.adapter().collapse().values():
        assert (a.shape, b.shape) == ((32, 6), (6, 96))


@pytest.mark.parametrize("damage", EXPERT_DAMAGES)
def test_an_expert_file_that_is_not_right_is_refused(expert: ExpertFile, damage: str) -> None:
    data = rewritten(expert.to_bytes(), **EXPERT_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        ExpertFile.from_bytes(data, "somewhere")


def test_an_expert_of_a_kind_that_is_not_installed_says_which(expert: ExpertFile) -> None:
    data = rewritten(expert.to_bytes(), metadata=lambda m: m.update(kind="poetry"))
    with pytest.raises(NotFoundError, match=r"no task kind named 'poetry'.*install"):
        ExpertFile.from_bytes(data, "somewhere")


WEIGHT, BIAS = "layers.0.weight", "layers.0.bias"

ROUTER_DAMAGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "no weight": {"tensors": lambda t: t.pop(WEIGHT)},
    "no bias": {"tensors": lambda t: t.pop(BIAS)},
    "a column too few": {"tensors": lambda t: t.update({WEIGHT: torch.zeros(4, 2)})},
    "a flat weight": {"tensors": lambda t: t.update({WEIGHT: torch.zeros(3)})},
    "a bias too many": {"tensors": lambda t: t.update({BIAS: torch.zeros(4)})},
    "a gate in half precision": {"tensors": lambda t: t.update({WEIGHT: t[WEIGHT].half()})},
    "an extra tensor": {"tensors": lambda t: t.update(extra=torch.zeros(1))},
    "a NaN": {"tensors": lambda t: put_nan(t, WEIGHT)},
    "a layer too many": {"metadata": lambda m: m.update(layers=2)},
    "a layer too few": {"metadata": lambda m: m.update(layers=0)},
    "layers without end": {"metadata": lambda m: m.update(layers=10**12)},
    "layers that are a word": {"metadata": lambda m: m.update(layers="one")},
    "no unknown means": {"tensors": lambda t: t.pop("unknown.means")},
    "unknown means too many": {"tensors": lambda t: t.update({"unknown.means": torch.zeros(4, 4)})},
    "a flat whitener": {"tensors": lambda t: t.update({"unknown.within": torch.zeros(4)})},
    "a NaN in the centre": {"tensors": lambda t: put_nan(t, "unknown.centre")},
    "a threshold that is no number": {
        "metadata": lambda m: m["unknown"].update(threshold=float("nan"))
    },
    "a projection there is not": {"metadata": lambda m: m["unknown"].update(projection="x")},
    "unknown of another width": {"metadata": lambda m: m["unknown"].update(dimension=5)},
    "unknown that is a list": {"metadata": lambda m: m.update(unknown=[])},
    "unknown facts forgotten": {"metadata": lambda m: m.update(unknown=None)},
    "a kind that is no word": {"metadata": lambda m: m["members"][0].__setitem__(3, 7)},
    "a member without a name": {"metadata": lambda m: m["members"][0].__setitem__(0, "")},
    "a shape there is not": {"metadata": lambda m: m["members"][0].__setitem__(5, ["triple"])},
    "a column that is true": {"metadata": lambda m: m["members"][1].__setitem__(4, True)},
    "a member too few": {"metadata": lambda m: m["members"].pop()},
    "a column that nobody has": {"metadata": lambda m: m["members"][2].__setitem__(4, 1)},
    "a column too high": {"metadata": lambda m: m["members"][2].__setitem__(4, 3)},
    "a column below zero": {"metadata": lambda m: m["members"][0].__setitem__(4, -1)},
    "half a member": {"metadata": lambda m: m["members"][0].pop()},
    "no members": {"metadata": lambda m: m.pop("members")},
    "another format": {"metadata": lambda m: m.update(format=9)},
    "a temperature of zero": {"metadata": lambda m: m.update(temperature=0)},
    "a temperature that is no number": {"metadata": lambda m: m.update(temperature=float("nan"))},
    "an infinite temperature": {"metadata": lambda m: m.update(temperature=float("inf"))},
    "a temperature beyond all numbers": {"metadata": lambda m: m.update(temperature=10**400)},
    "infinite layers": {"metadata": lambda m: m.update(layers=float("inf"))},
}


@pytest.mark.parametrize("damage", ROUTER_DAMAGES)
def test_a_router_file_that_is_not_right_is_refused(router: Router, damage: str) -> None:
    data = rewritten(router.to_bytes(), **ROUTER_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        Router.from_bytes(data, "somewhere")


FEATURE_DAMAGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "no train rows": {"tensors": lambda t: t.pop("train")},
    "no spec": {"metadata": lambda m: m.pop("feature_spec_digest")},
    "an infinity": {"tensors": lambda t: t.update(train=t["train"].half() * float("inf"))},
    "another type": {"tensors": lambda t: t.update(evaluation=t["evaluation"].float())},
    "another number of dimensions": {"tensors": lambda t: t.update(train=t["train"].flatten())},
    "no shapes": {"tensors": lambda t: t.pop("train_shapes")},
    "a shape too few": {"tensors": lambda t: t.update(train_shapes=t["train_shapes"][1:])},
    "an unknown shape": {"tensors": lambda t: t["evaluation_shapes"].fill_(9)},
}


@pytest.mark.parametrize("damage", FEATURE_DAMAGES)
def test_a_feature_file_that_is_not_right_is_refused(damage: str) -> None:
    data = rewritten(features().to_bytes(), **FEATURE_DAMAGES[damage])
    with pytest.raises(IntegrityError, match="somewhere"):
        FeatureFile.from_bytes(data, "somewhere")


def test_features_survive_being_written_and_read() -> None:
    again = FeatureFile.from_bytes(features().to_bytes(), "test")
    assert again.to_bytes() == features().to_bytes()
    assert torch.equal(again.train, features().train)
    assert torch.equal(again.evaluation, features().evaluation)
    assert again.train_shapes == features().train_shapes
    assert again.evaluation_shapes == features().evaluation_shapes
    assert again.feature_spec_digest == "c" * 64
    assert {str(t.dtype) for t in load(again.to_bytes()).values()} == {"torch.int8", "torch.uint8"}


def test_features_of_format_1_are_read_as_they_are_and_kept_a_byte_each() -> None:
    plain = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).half()
    old = rewritten(
        features().to_bytes(),
        tensors=lambda t: t.update(train=plain, evaluation=t["evaluation"].half() * STEP),
        metadata=lambda m: m.update(format=1),
    )
    file = FeatureFile.from_bytes(old, "test")
    assert torch.equal(file.train, plain)
    again = FeatureFile.from_bytes(file.to_bytes(), "test")
    assert torch.equal(again.train, (on_grid(plain) * STEP).half())
    assert torch.equal(again.evaluation, features().evaluation)


def test_features_that_are_not_finite_are_not_kept() -> None:
    bad = replace(features(), train=torch.full((5, 4), float("nan")).half())
    with pytest.raises(IntegrityError, match="not finite"):
        bad.to_bytes()


def test_a_router_on_the_grid_and_one_of_before_read_what_they_were_fitted_on(
    router: Router,
) -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(6)).half()
    newer = replace(router, grid=Grid(4))
    again = Router.from_bytes(newer.to_bytes(), "test")
    assert again.grid == Grid(4)
    assert torch.equal(again.scores(rows), router.scores(on_grid(rows) * STEP))
    assert torch.equal(router.scores(rows), router.gate.scores(rows))
    assert read_safetensors(router.to_bytes(), "test")[1]["format"] == 1
    for grid in ({"dimension": 5, "projection": None}, {"dimension": 4}, {}, None, 3):
        data = rewritten(newer.to_bytes(), metadata=lambda m, g=grid: m.update(grid=g))
        with pytest.raises(IntegrityError, match="somewhere"):
            Router.from_bytes(data, "somewhere")


DEEP = "[" * 100_000

FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "text": lambda data: b"not a file of ours at all",
    "a pickle": lambda data: b"\x80\x04\x95" + data,
    "truncated": lambda data: data[:-1],
    "trailing garbage": lambda data: data + b"x",
    "no metadata": lambda data: save(load(data)),
    "metadata of others": lambda data: save(load(data), metadata={"format": "pt"}),
    "metadata that is no JSON": lambda data: save(load(data), metadata={METADATA_KEY: "{"}),
    "metadata that is a list": lambda data: save(load(data), metadata={METADATA_KEY: "[]"}),
    "metadata without a bottom": lambda data: save(load(data), metadata={METADATA_KEY: DEEP}),
}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_not_one_of_our_files_is_refused(
    expert: ExpertFile, router: Router, foreign: str
) -> None:
    spoil = FOREIGN[foreign]
    for read, data in (
        (ExpertFile.from_bytes, expert.to_bytes()),
        (Router.from_bytes, router.to_bytes()),
        (FeatureFile.from_bytes, features().to_bytes()),
    ):
        with pytest.raises(IntegrityError, match="somewhere"):
            read(spoil(data), "somewhere")


def test_one_kind_of_file_is_not_taken_for_another(expert: ExpertFile, router: Router) -> None:
    with pytest.raises(IntegrityError):
        ExpertFile.from_bytes(router.to_bytes(), "test")
    with pytest.raises(IntegrityError):
        Router.from_bytes(features().to_bytes(), "test")
    with pytest.raises(IntegrityError):
        FeatureFile.from_bytes(expert.to_bytes(), "test")


def test_a_router_survives_being_written_and_read(router: Router) -> None:
    again = Router.from_bytes(router.to_bytes(), "test")
    assert again.to_bytes() == router.to_bytes()
    assert again.members == router.members
    rows = torch.randn(7, 4, generator=torch.Generator().manual_seed(2)).half()
    assert torch.equal(again.route(rows).index, router.route(rows).index)
    assert torch.equal(again.route(rows).confidence, router.route(rows).confidence)


def test_a_gate_with_a_hidden_layer_survives_and_scores_as_its_layers_say(deep: Router) -> None:
    again = Router.from_bytes(deep.to_bytes(), "test")
    assert again.to_bytes() == deep.to_bytes()
    rows = torch.randn(7, 4, generator=torch.Generator().manual_seed(2)).half()
    below, above = (layer.weight.double() for layer in deep.gate.layers)
    hidden = (rows.double() @ below + deep.gate.layers[0].bias.double()).clamp_min(0)
    expected = hidden @ above + deep.gate.layers[1].bias.double()
    torch.testing.assert_close(again.scores(rows), expected, rtol=1e-12, atol=1e-12)
    assert again.judge(again.route(rows).strangeness, again.route(rows).index) is None
    part = deep.subset(["t2", "t0"])
    assert torch.equal(part.scores(rows), deep.scores(rows)[:, [0, 2]])
    assert Router.from_bytes(part.to_bytes(), "test").to_bytes() == part.to_bytes()


@pytest.mark.parametrize("size", [1, 3, 7])
def test_choice_and_unknown_score_do_not_depend_on_how_rows_were_batched(
    router: Router, deep: Router, size: int
) -> None:
    rows = torch.randn(21, 4, generator=torch.Generator().manual_seed(2)).half()
    for of in (router, replace(deep, unknown=router.unknown)):
        whole = of.route(rows)
        parts = [of.route(part) for part in rows.split(size)]
        assert torch.equal(torch.cat([part.index for part in parts]), whole.index)
        judged = [of.judge(part.strangeness, part.index).unknown for part in parts]
        assert torch.equal(torch.cat(judged), of.judge(whole.strangeness, whole.index).unknown)
        strange = torch.cat([part.strangeness for part in parts])
        torch.testing.assert_close(strange, whole.strangeness, rtol=1e-9, atol=1e-9)


def test_rows_with_choices_go_to_multiple_choice_experts_and_others_to_the_rest(
    router: Router,
) -> None:
    rows = torch.randn(200, 4, generator=torch.Generator().manual_seed(2)).half()
    free = router.route(rows).index
    assert set(free.tolist()) == {0, 1, 2}
    choice = router.route(rows, ["single" if row % 2 else "choices" for row in range(200)])
    assert (choice.index[::2] == 1).all()
    assert torch.equal(choice.confidence[::2], torch.ones(100, dtype=torch.float64))
    scores = router.scores(rows)[1::2, [0, 2]]
    assert torch.equal(choice.index[1::2], scores.argmax(1) * 2)


def test_the_lead_is_over_the_next_candidate_not_over_one_that_the_row_cannot_go_to(
    router: Router,
) -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(3)).half()
    scores = router.scores(rows)
    ordered = scores.sort(dim=1, descending=True).values
    torch.testing.assert_close(router.lead(rows), ordered[:, 0] - ordered[:, 1])
    apart = (scores[:, 0] - scores[:, 2]).abs()
    torch.testing.assert_close(router.lead(rows, ["single"] * 50), apart)
    assert torch.isinf(router.lead(rows, ["choices"] * 50)).all()
    assert torch.isinf(router.subset(["t1"]).lead(rows)).all()


def test_confidence_is_the_softmax_over_the_candidates(router: Router) -> None:
    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(2)).half()
    (layer,) = router.gate.layers
    scores = rows.double() @ layer.weight.double() + layer.bias.double()
    expected = torch.softmax(scores / 0.5, 1).amax(1)
    torch.testing.assert_close(router.route(rows).confidence, expected)


def test_features_of_another_width_are_refused(router: Router) -> None:
    with pytest.raises(IntegrityError, match="width 4"):
        router.route(torch.zeros(1, 5).half())


def test_a_subset_decides_as_the_whole_router_would_among_its_tasks(router: Router) -> None:
    part = router.subset(["t2", "t0"])
    assert [member.task for member in part.members] == ["t0", "t2"]
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(2)).half()
    assert torch.equal(part.route(rows).index * 2, router.scores(rows)[:, [0, 2]].argmax(1) * 2)
    assert Router.from_bytes(part.to_bytes(), "test").members == part.members
    assert router.subset(["t0", "t1", "t2"]).to_bytes() == router.to_bytes()
