"""The one-pass model: route half-way up the backbone, adapt the layers above, answer.

One forward pass serves a batch whose rows need different experts. The trunk runs unadapted; at
the input of the route layer its pooled states become the routing feature, the caller's
``decide`` names an expert for every row, and the projections above add that expert's update.

Where an expert of the batch adapts layers of the trunk too, the pass ends at the route layer and
the batch runs again from the bottom, adapted: the trunk's layers are paid twice.

The paper runs the backbone twice instead (arXiv 2504.21190, section 3.2): a bare pass whose
last hidden states are the feature, then a pass adapted at full depth. A feature spec with
``route_layer = 0`` asks for exactly that, behind the same interface.

A pass keeps nothing on the model: concurrent calls cannot see each other.

A backbone may be compiled with ``torch.compile``, in place or inside an outer model: hooks run
outside the graphs, which break there. Compiling gains nothing here, but it does no harm; where a
graph made earlier skips the hooks, the pass is refused rather than answered unadapted; of an
answer that is written, each pass is held to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert, Stack
from expertbank.adapters.targets import adaptable_modules
from expertbank.backbones import features
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import Batch, collate, plan_batches
from expertbank.backbones.forks import computing
from expertbank.backbones.language import language_head
from expertbank.backbones.running import run_backbone
from expertbank.config import FeatureSpec
from expertbank.errors import InputError, IntegrityError, UnsupportedModelError
from expertbank.kinds.sequences import logits_by_row
from expertbank.models.heads import head_inputs, head_width
from expertbank.models.writing import FIGURES, Prompted, WriteOptions, Writer, Written
from expertbank.records import EncodedRow
from expertbank.writing import Writing

Decide = Callable[[Tensor, Sequence[int]], Sequence[str]]
"""Features ``[rows, dimension]`` and row positions to one expert per row, by the pool's ids."""


@dataclass(frozen=True, slots=True)
class PassOutput:
    """What one pass gives.

    Attributes:
        rows: positions of the rows.
        features: ``[rows, dimension]`` float16 routing features.
        experts: chosen expert per row.
        logits: ``[rows, width]`` float32, ``-inf`` beyond a row's own outputs.
        thresholds: per row those of its expert, ``None`` where its kind has none.
        written: per row what its expert wrote, ``None`` where that has a head; then ``logits``
            are ``writing.FIGURES``. Empty where nothing was to be written.
    """

    rows: tuple[int, ...]
    features: Tensor
    experts: tuple[str, ...]
    logits: Tensor
    thresholds: tuple[Tensor | None, ...]
    written: tuple[Written | None, ...] = ()


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What was decided for a batch.

    Attributes:
        feature: ``[rows, dimension]``.
        by_row: chosen expert per row.
        stack: those that occur, each once.
        index: per sequence the place of its row's expert in the stack.
    """

    feature: Tensor
    by_row: tuple[str, ...]
    stack: Stack
    index: tuple[int, ...]


class _TrunkDoneError(Exception):
    """Stops a forward pass that needs the trunk only, or to run again; never leaves this module."""


class RoutedModel:
    """A backbone, a pool of experts, and the pass that joins them.

    Args:
        backbone: the frozen model.
        spec: where to route and what the feature is.
        pool: the experts.

    Raises:
        UnsupportedModelError: the backbone is wrapped in ``DataParallel``.
        InputError: a paper-mode spec made for a backbone of another depth.
    """

    def __init__(self, backbone: Backbone, spec: FeatureSpec, pool: ExpertPool) -> None:
        if isinstance(backbone.model, nn.DataParallel):
            raise UnsupportedModelError(features.NO_REPLICAS)
        depth = len(backbone.layers)
        if spec.two_passes and spec.states != (depth,):
            raise InputError(
                f"with route layer 0 the feature is the last state of the backbone, {depth}; "
                f"the feature spec names {list(spec.states)}"
            )
        self.backbone = backbone
        self.spec = spec
        self.pool = pool
        self._layers = backbone.layers
        self._trunk = {part for one in self._layers[: spec.route_layer] for part in one.modules()}
        self._shapes = adaptable_modules(backbone.model, backbone.family, 0)
        self._projections = {path: backbone.model.get_submodule(path) for path in self._shapes}
        pool.require(self._require_fit)
        for projection in self._projections.values():
            hooks.install(projection)
        features.install(self._layers)

    @computing()
    @torch.no_grad()
    def trunk_features(self, batch: Batch) -> Tensor:
        """Routing features ``[rows, dimension]`` alone, from an unadapted pass.

        The branch is not run, unless the spec asks for the last state.
        """
        if self.spec.two_passes:
            last: Tensor = self._run(batch, {}).last_hidden_state
            return self._feature({len(self._layers): last}, batch)
        found: list[Tensor] = []

        def finish(feature: Tensor) -> bool:
            found.append(feature)
            return True

        self._run(batch, {}, half_way=finish)
        return found[0]

    @computing()
    @torch.no_grad()
    def __call__(
        self, batch: Batch, decide: Decide, write: WriteOptions | None = None
    ) -> PassOutput:
        """Route and answer one batch.

        Experts that write do so from where the pass ended, on its keys and values: prompts are
        read once, and experts of all sorts may share the pass. Where all that were chosen are
        answered elsewhere, the pass ends at the route layer; where one reaches below it, the
        batch runs again.

        Args:
            batch: padded rows.
            decide: names an expert for every row; it is called once: half-way up, or between
                the two passes of a spec with route layer 0.
            write: what is wanted of answers that are written; ``None`` where no expert may be
                chosen that writes. Needs a batch that is padded on the left.

        Raises:
            UnsupportedModelError: the backbone ran without some of its hooks.
            ExpertBankError: this process is a fork of one that has computed, see ``forks``.
        """
        updates: dict[nn.Module, hooks.Update] = {}
        found: list[_Chosen] = []

        def choose(feature: Tensor) -> bool:
            chosen = self._choose(feature, batch, decide)
            found.append(chosen)
            updates.update(self.updates(chosen.stack, chosen.index))
            return not chosen.stack.answers or not self._trunk.isdisjoint(updates)

        output, keep = None, write is not None
        if self.spec.two_passes:
            choose(self.trunk_features(batch))
        else:
            output = self._run(batch, updates, keep=keep, half_way=choose)
        (chosen,) = found
        if not chosen.stack.answers:
            rows = len(chosen.by_row)
            nothing = torch.empty(rows, 0, device=chosen.feature.device)
            return PassOutput(batch.rows, chosen.feature, chosen.by_row, nothing, (None,) * rows)
        if output is None:
            output = self._run(batch, updates, keep=keep)
        return self._answered(batch, chosen, output, write)

    def _run(
        self,
        batch: Batch,
        updates: Mapping[nn.Module, hooks.Update],
        *,
        keep: bool = False,
        half_way: Callable[[Tensor], bool] | None = None,
    ) -> Any:
        """The backbone's output, adapted; ``None`` where the pass ended at the route layer.

        Args:
            batch: padded rows.
            updates: what projections add; ``half_way`` may fill it.
            keep: keep keys and values to go on from.
            half_way: called with the feature at the route layer; true ends the pass there.
        """
        states: dict[int, Tensor] = {}

        def watch(number: int, state: Tensor) -> None:
            states[number] = state
            at_route = number == self.spec.route_layer
            if half_way and at_route and half_way(self._feature(states, batch)):
                raise _TrunkDoneError

        numbers = {*self.spec.states, self.spec.route_layer} if half_way else ()
        observers = {self._layers[number]: partial(watch, number) for number in numbers}
        try:
            with features.observing(observers), hooks.applied(updates) as added:
                output = run_backbone(self.backbone, batch, keep=keep)
        except _TrunkDoneError:
            return None
        if len(states) < len(observers):
            raise UnsupportedModelError(f"the route layer did not show its input: {hooks.SKIPPED}")
        hooks.require_added(updates, added)
        return output

    def _choose(self, feature: Tensor, batch: Batch, decide: Decide) -> _Chosen:
        by_row = tuple(decide(feature, batch.rows))
        stack = self.stack(by_row)
        order = {expert: place for place, expert in enumerate(stack.ids)}
        index = tuple(order[by_row[row]] for row in batch.row_of.tolist())
        return _Chosen(feature, by_row, stack, index)

    def _answered(
        self, batch: Batch, chosen: _Chosen, output: Any, write: WriteOptions | None
    ) -> PassOutput:
        """What heads, and experts that write, make of the last states of a pass."""
        experts, index = chosen.stack.experts, chosen.index
        pooled = head_inputs(output.last_hidden_state, batch, experts, index)
        outputs = chosen.stack.logits(pooled, index)
        alone = [experts[place].scores_sequences for place in index]
        logits = logits_by_row(outputs, batch.row_of, torch.tensor(alone, device=outputs.device))
        written: tuple[Written | None, ...] = ()
        if write is not None and any(expert.writing for expert in experts):
            logits, written = self._write(batch, output, logits, chosen, write)
        of = {expert.id: expert.thresholds for expert in experts}
        thresholds = tuple(of[expert] for expert in chosen.by_row)
        return PassOutput(batch.rows, chosen.feature, chosen.by_row, logits, thresholds, written)

    def _write(
        self, batch: Batch, output: Any, logits: Tensor, chosen: _Chosen, options: WriteOptions
    ) -> tuple[Tensor, tuple[Written | None, ...]]:
        """Write the answers of rows whose experts do, and put figures in place of their logits."""
        row_of, cache = batch.row_of.tolist(), output.past_key_values
        ways = [expert.writing for expert in chosen.stack.experts]
        writing = {at: way for at, place in enumerate(chosen.index) if (way := ways[place])}
        places = list(writing)
        taken = torch.tensor(places, device=logits.device)
        if len(places) < len(chosen.index):
            cache.batch_select_indices(taken)
        prompted = Prompted(
            tuple(batch.rows[row_of[place]] for place in places),
            output.last_hidden_state[taken, -1],
            batch.attention_mask[taken],
            cache,
        )
        answers = self.writer.write(
            prompted,
            list(writing.values()),
            lambda rows: self.updates(chosen.stack, [chosen.index[places[row]] for row in rows]),
            options,
        )
        wide = max(logits.shape[1], len(FIGURES))
        found = F.pad(logits, (0, wide - logits.shape[1]), value=float("-inf"))
        written: list[Written | None] = [None] * len(logits)
        for place, answer in zip(places, answers, strict=True):
            written[row_of[place]] = answer
            found[row_of[place], : len(FIGURES)] = found.new_tensor(answer.figures)
        return found, tuple(written)

    @cached_property
    def writer(self) -> Writer:
        """What writes answers with this backbone.

        Raises:
            UnsupportedModelError: the backbone cannot write, see ``language_head``.
        """
        return Writer(self.backbone, language_head(self.backbone))

    def _require_language(self, writing: Writing, name: str) -> None:
        """Refuse an expert that was trained with another language-model head.

        The backbone's digest does not cover a head of its own, which a bare model does not have.
        """
        head = language_head(self.backbone).digest
        if head != writing.head:
            raise IntegrityError(
                f"expert {name} writes with a language-model head of digest {writing.head}; the "
                f"files of this backbone have one of {head}. Use the files it was trained with"
            )

    def stack(self, experts: Sequence[str]) -> Stack:
        """The experts that occur, each once.

        Raises:
            IntegrityError: an expert was made for other modules or widths than this backbone has.
        """
        return self.pool.stack(sorted(set(experts)))

    def updates(self, stack: Stack, index: Sequence[int]) -> Mapping[nn.Module, hooks.Update]:
        """What the projections add for sequences whose experts are ``index``."""
        found = stack.updates_for(index)
        return {self._projections[path]: update for path, update in found.items()}

    def _require_fit(self, expert: CollapsedExpert) -> None:
        """Refuse an expert made for other widths or modules, whoever vouches for its bytes."""
        name = f"{expert.id} of task {expert.task}" if expert.task else expert.id
        for path, (a, b) in expert.factors.items():
            shape = (a.shape[0], b.shape[1])
            if self._shapes.get(path) != shape:
                raise IntegrityError(
                    f"expert {name} adapts {path} as {shape[0]} by {shape[1]}; the layers of "
                    "this backbone have no such projection"
                )
        width = expert.head_weight.shape[1]
        if expert.writing is not None:
            self._require_language(expert.writing, name)
        elif len(expert.head_bias) and width != (
            fits := head_width(self.backbone.output_size, expert.pooling)
        ):
            raise IntegrityError(
                f"expert {name} has a head that reads {width} numbers; on this backbone it would "
                f"read {fits}"
            )

    def _feature(self, states: Mapping[int, Tensor], batch: Batch) -> Tensor:
        chosen = [states[wanted] for wanted in self.spec.states]
        feature = features.feature(chosen, batch.attention_mask, self.spec)
        return features.mean_by_row(feature, batch.row_of)

    def batches(
        self, rows: Sequence[EncodedRow], batch_size: int, *, left: bool = False
    ) -> Iterator[Batch]:
        """Padded batches of ``rows`` by the deterministic length-bucketed plan."""
        pad, device = self.backbone.tokenizer.pad_token_id, self.backbone.device
        for positions in plan_batches(rows, batch_size):
            yield collate(rows, positions, pad, device, left=left)
