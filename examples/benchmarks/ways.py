"""Other ways to train a tensor train than from random cores on labels alone: for ``recipe.py``.

- ``gradient``: the cores but the last from the gradient of the loss by the frozen weights, after
  the head's start, over 256 training rows (as LoRA-SB does, arXiv 2411.19557); the last is zero.
- ``weights``: the same from the frozen weights themselves.
- ``swept``: a train of twice the rank is trained first, brought down to the wished ranks by
  truncated SVDs and trained on (a simple form of the sweeps of MetaTT, arXiv 2506.09105).
- ``taught``: LoRA of rank 16 in the branch is trained first and thrown away; the train learns from
  its answers to the training rows as much as from the labels (Hinton et al., arXiv 1503.02531).
- ``dropout``: the branch drops what the backbone's configuration says while it is trained, as
  models do that are trained as a whole; the trunk, whose states are kept, does not.
- ``smoothed``: a tenth of each label is spread over all classes (Szegedy et al., arXiv 1512.00567).
- ``A frozen``, ``A/10``, ``A/3``, ``3A``, ``10A``: the first of LoRA's two factors stays as it
  began (LoRA-FA, arXiv 2308.03303), or has a tenth, a third (LoRA+, arXiv 2402.12354), three or ten
  times the rate.
- ``refitted``: the epoch that held-out rows chose is reached once more with these rows among those
  that are trained on.

``swept``, ``taught`` and ``refitted`` train twice. Nothing here reads another row than the job's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from expertbank import AdapterConfig
from expertbank.adapters import ADAPTERS, Adapter, Start
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.tt import CoreGroup, TTAdapter, TTKind, group_targets
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import Batch, shuffled_batches
from expertbank.models.routed import RoutedModel
from expertbank.records import no_progress
from expertbank.training import expert
from expertbank.training.expert import TrainedExpert, train_expert
from expertbank.training.held_out import HeldOut
from expertbank.training.job import ExpertJob
from expertbank.training.student import Student
from expertbank.training.trunk import TrunkCache, rows_within
from expertbank.tt import TTShape, decompose, initial_cores
from expertbank.tt.shape import DEFAULT_RANK
from expertbank.workflows.measure import answers

GRADIENT_ROWS = 256
TEACHER = AdapterConfig(kind="lora", rank=16, alpha=2.0)
TEACHER_RATE = 1e-3
TEMPERATURE = 2.0
SMOOTHING = 0.1


class Begun(TTKind):
    """Trains that begin at given matrices by path; without any, at the frozen weights."""

    def __init__(self) -> None:
        self.given: Mapping[str, Tensor] = {}

    def fresh(self, start: Start) -> TTAdapter:
        groups = group_targets(start.targets, self.settled(start.config).tt_rank)
        given = self.given or {one.path: start.weight_of(one).cpu() for one in start.targets}
        cores = [
            self.begun(
                decompose(torch.stack([given[path] for path in one.paths]), one.shape), one, start
            )
            for one in groups
        ]
        return TTAdapter(groups, start.alpha, cores)

    def begun(self, cores: list[Tensor], group: CoreGroup, start: Start) -> list[Tensor]:
        """The first cores of a group: those of what was given, or made of them."""
        return cores


class Whole(Begun):
    """Trains that go on from given updates, or from the nearest that they can have."""

    name = "tt-whole"


class Framed(Begun):
    """Trains whose cores but the last span what was given, and are as large as random ones."""

    name = "tt-framed"

    def begun(self, cores: list[Tensor], group: CoreGroup, start: Start) -> list[Tensor]:
        usual = initial_cores(group.shape, len(group.slots), start.generator)
        scaled = [
            own * (_sizes(random) / _sizes(own))
            for own, random in zip(cores[:-1], usual[:-1], strict=True)
        ]
        return [*scaled, usual[-1]]


def _sizes(cores: Tensor) -> Tensor:
    return cores.flatten(1).norm(dim=1)[:, None, None, None]


class Probe(TTKind):
    """Full updates of square projections, which are zero: their gradient is the weights' own."""

    name = "probe"

    def fresh(self, start: Start) -> TTAdapter:
        groups = group_targets(start.targets, 1, _square)
        cores = []
        for group in groups:
            count, width = len(group.slots), group.shape.in_features
            eye = torch.eye(width).expand(count, 1, width, width).clone()
            cores.append([eye, torch.zeros(count, width, width, 1)])
        return TTAdapter(groups, 1.0, cores)


def _square(inputs: int, outputs: int, _: object) -> TTShape:
    return TTShape((inputs,), (outputs,), (1, inputs, 1))


FRAMED, WHOLE, PROBE = Framed(), Whole(), Probe()
for _kind in (FRAMED, WHOLE, PROBE):
    ADAPTERS.register(_kind.name, _kind)


def gradient(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """Cores that span the gradient."""
    generator = torch.Generator().manual_seed(job.config.seed)
    student = Student(_as(job, PROBE.name, tt_rank=None), backbone, generator)
    kept = rows_within(job.train, job.config.cache_bytes, student.view)
    cache = TrunkCache(student.view, job.train, kept, lambda *_: None)
    expert._start_head(student, job, cache, no_progress)
    size = job.config.batch_size
    for positions in shuffled_batches(job.train, size, generator)[: GRADIENT_ROWS // size]:
        student.gradients(job.train, positions, 1, cache)
    return _begun(FRAMED, _gradients(student.adapter), job, backbone)


def weights(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """Cores that span the frozen weights."""
    return _begun(FRAMED, {}, job, backbone)


def swept(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """Trained at twice the rank, brought down, trained on."""
    ranks = job.adapter.tt_rank or DEFAULT_RANK
    twice = 2 * ranks if isinstance(ranks, int) else tuple(2 * rank for rank in ranks)
    large = train_expert(_as(job, "tt", tt_rank=twice), backbone).file
    cores = {name: one for name, one in large.tensors.items() if not name.startswith("head.")}
    given = {
        path: a @ b
        for path, (a, b) in ADAPTERS.get("tt")
        .read(large.adapter_facts, cores, 1.0)
        .collapse()
        .items()
    }
    return _begun(WHOLE, {path: one.detach() for path, one in given.items()}, job, backbone)


def taught(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """Trained on labels and on the answers of a teacher."""
    lessons = replace(job, adapter=TEACHER, config=replace(job.config, lr=TEACHER_RATE))
    teacher = train_expert(lessons, backbone).file
    collapsed = teacher.collapse("teacher", backbone.device, getattr(torch, job.spec.dtype))
    model = RoutedModel(backbone, job.spec, ExpertPool.holding({"teacher": collapsed}))
    said = answers(model, job.train, "teacher").logits.to(backbone.device)

    def loss(student: Student, logits: Tensor, targets: Tensor, batch: Batch) -> Tensor:
        pair = [log_softmax(one / TEMPERATURE, -1) for one in (logits, said[list(batch.rows)])]
        alike = kl_div(*pair, reduction="batchmean", log_target=True) * TEMPERATURE**2
        return (student.objective.loss(logits, targets) + alike) / 2

    return _on_another_loss(loss, job, backbone)


def dropout(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """Trained on a branch that drops."""
    torch.manual_seed(job.config.seed)

    class Dropping(Student):
        def gradients(self, *given: Any) -> tuple[float, int]:
            self.view.backbone.model.train()
            try:
                return super().gradients(*given)
            finally:
                self.view.backbone.model.eval()

    with _in_place_of(expert, "Student", Dropping):
        return train_expert(job, backbone)


def smoothed(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """Trained on labels that are not quite sure."""

    def loss(_: Student, logits: Tensor, targets: Tensor, __: Batch) -> Tensor:
        return cross_entropy(logits, targets.long(), label_smoothing=SMOOTHING)

    return _on_another_loss(loss, job, backbone)


def refitted(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
    """Trained as ever, and then to the same epoch with the held-out rows as well."""
    first = train_expert(job, backbone)
    seen = 0

    def last_is_best(*_: Any) -> tuple[HeldOut, dict[str, Tensor]]:
        nonlocal seen
        seen += 1
        return HeldOut(float(seen), 0.0), {}

    every = replace(job, train=(*job.train, *job.selection))
    with _in_place_of(expert, "_measure", last_is_best):
        again = train_expert(every, backbone, watch=lambda epoch, *_: epoch + 1 == first.best_epoch)
    return replace(again, selection_score=first.selection_score)


def first_at(share: float) -> Callable[[ExpertJob, Backbone], TrainedExpert]:
    """LoRA whose first factor learns at a share of the rate."""

    def way(job: ExpertJob, backbone: Backbone) -> TrainedExpert:
        usual = expert.adamw

        def adamw(groups: Sequence[tuple[Iterable[Tensor], float]], decay: float):
            (adapter, rate), head = groups
            cores = list(adapter)
            return usual([(cores[::2], rate * share), (cores[1::2], rate), head], decay)

        with _in_place_of(expert, "adamw", adamw):
            return train_expert(job, backbone)

    return way


WAYS: dict[str, Callable[[ExpertJob, Backbone], TrainedExpert]] = {
    "": train_expert,
    "gradient": gradient,
    "weights": weights,
    "swept": swept,
    "taught": taught,
    "dropout": dropout,
    "smoothed": smoothed,
    "refitted": refitted,
    "A frozen": first_at(0),
    "A/10": first_at(1 / 10),
    "A/3": first_at(1 / 3),
    "3A": first_at(3),
    "10A": first_at(10),
}
"""By name how to train; the empty one is the product's."""


def _on_another_loss(
    loss_of: Callable[[Student, Tensor, Tensor, Batch], Tensor],
    job: ExpertJob,
    backbone: Backbone,
) -> TrainedExpert:
    """Trained as ever, on what ``loss_of`` makes of logits, targets and the batch."""

    class Otherwise(Student):
        def gradients(
            self, rows: Any, positions: Any, parts: int, cache: TrunkCache
        ) -> tuple[float, int]:
            self.collapse()
            batch = self.batch(rows, positions)
            loss = loss_of(self, *self.answers(rows, batch, cache), batch)
            loss.backward()
            self.backward_cores()
            return float(loss.detach()), batch.tokens

    with _in_place_of(expert, "Student", Otherwise):
        return train_expert(job, backbone)


def _as(job: ExpertJob, kind: str, **changes: Any) -> ExpertJob:
    return replace(job, adapter=replace(job.adapter, kind=kind, **changes))


def _begun(
    kind: Begun, given: Mapping[str, Tensor], job: ExpertJob, backbone: Backbone
) -> TrainedExpert:
    kind.given = given
    try:
        return train_expert(_as(job, kind.name), backbone)
    finally:
        kind.given = {}


def _gradients(probe: Adapter) -> dict[str, Tensor]:
    """By path the gradient ``[in, out]`` of a probe's updates."""
    assert isinstance(probe, TTAdapter)
    found: dict[str, Tensor] = {}
    for place, group in enumerate(probe.groups):
        last = probe.get_parameter(f"cores_{place}_1").grad
        assert last is not None
        found.update(zip(group.paths, last[..., 0].cpu().unbind(0), strict=True))
    return found


@contextmanager
def _in_place_of(module: Any, name: str, other: object) -> Any:
    before = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, before)
