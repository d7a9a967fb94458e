"""Other ways to train a tensor train begin where they say, and train what they say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import tiny
import torch

from expertbank import AdapterConfig, TrainConfig
from expertbank.adapters import Start
from expertbank.adapters.targets import Target
from expertbank.backbones.backbone import Backbone
from expertbank.training.job import ExpertJob
from expertbank.tt import TTShape, collapse, dense

Script = Callable[..., ModuleType]


def _job(backbone: Backbone) -> ExpertJob:
    return ExpertJob(
        "t",
        "classification",
        ("a", "b"),
        tiny.keyword_rows(48, 0, "good", "bad"),
        tiny.keyword_rows(16, 1, "good", "bad"),
        AdapterConfig(tt_rank=2),
        TrainConfig(epochs=2),
        tiny.spec_of(backbone, route_layer=1),
    )


def _start(given: dict[str, torch.Tensor]) -> Start:
    targets = [Target(path, 0, "query", *one.shape) for path, one in given.items()]
    generator = torch.Generator().manual_seed(1)
    return Start(targets, AdapterConfig(tt_rank=3), 4.0, generator, lambda _: torch.empty(0))


@pytest.fixture
def given() -> dict[str, torch.Tensor]:
    """By path a matrix that is a train of rank 3 itself."""
    shape, generator = TTShape.of(24, 24, 3), torch.Generator().manual_seed(0)
    cores = [torch.randn(2, *size, generator=generator).double() for size in shape.core_shapes]
    return dict(zip(("a", "b"), dense(cores, shape).float().unbind(0), strict=True))


def test_a_frame_spans_what_it_is_given_and_changes_nothing_yet(
    script: Script, given: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = script("ways")
    monkeypatch.setattr(ways.FRAMED, "given", given)
    adapter = ways.FRAMED.fresh(_start(given))
    for path, (a, b) in adapter.collapse().items():
        assert not b.any(), "the update is zero"
        spanned = a.double() @ torch.linalg.pinv(a.double())
        whole = given[path].double()
        assert torch.allclose(spanned @ whole, whole, atol=1e-4 * float(whole.abs().max()))


def test_a_train_that_goes_on_begins_at_the_nearest_of_its_ranks(
    script: Script, given: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = script("ways")
    monkeypatch.setattr(ways.WHOLE, "given", given)
    adapter = ways.WHOLE.fresh(_start(given))
    (cores,), (group,) = adapter._cores, adapter.groups
    a, b = collapse(list(cores), group.shape)
    for place, path in enumerate(group.paths):
        assert torch.allclose(a[place] @ b[place], given[path], atol=1e-3)


def test_the_probe_s_gradient_is_that_of_the_frozen_weights(script: Script, bert: Backbone) -> None:
    ways = script("ways")
    job = ways._as(_job(bert), "probe", tt_rank=None)
    student = ways.Student(job, bert, torch.Generator().manual_seed(0))
    cache = ways.TrunkCache(student.view, job.train, range(len(job.train)), lambda *_: None)
    with torch.no_grad():
        student.head_weight.normal_(generator=torch.Generator().manual_seed(2))
    student.gradients(job.train, range(8), 1, cache)
    found = ways._gradients(student.adapter)
    # The same from the loss itself: one entry moved both ways.
    path, step = next(iter(found)), 1e-2
    entry = divmod(int(found[path].abs().argmax()), found[path].shape[1])
    losses = []
    with torch.no_grad():
        for sign in (1, -1):
            student.adapter.get_parameter("cores_0_1")[0, entry[0], entry[1], 0] = sign * step
            student.collapse()
            batch = student.batch(job.train, range(8))
            losses.append(float(student.objective.loss(*student.answers(job.train, batch, cache))))
    slope = (losses[0] - losses[1]) / (2 * step)
    assert slope == pytest.approx(float(found[path][entry]), rel=0.05)


@pytest.mark.parametrize(
    "way",
    [
        *("", "gradient", "weights", "swept", "taught"),
        *("dropout", "smoothed", "refitted"),
    ],
)
def test_every_way_gives_an_expert_of_the_wished_size_and_the_same_one_again(
    way: str, script: Script, bert: Backbone
) -> None:
    ways = script("ways")
    train = ways.WAYS[way]
    first, again = train(_job(bert), bert), train(_job(bert), bert)
    assert first.adapter_params == ways.train_expert(_job(bert), bert).adapter_params
    assert first.file.to_bytes() == again.file.to_bytes()
    assert ways.FRAMED.given == ways.WHOLE.given == {}
    assert ways.expert.Student is ways.Student, "what a way puts in place goes again"
    assert ways.expert._measure.__module__ == "expertbank.training.expert"


def test_a_teacher_is_listened_to(script: Script, bert: Backbone) -> None:
    ways = script("ways")
    job = replace(_job(bert), config=TrainConfig(epochs=3))
    alone = ways.train_expert(job, bert)
    taught = ways.taught(job, bert)
    assert taught.file.to_bytes() != alone.file.to_bytes()
    assert taught.file.adapter_kind == "tt", "the teacher is thrown away"
