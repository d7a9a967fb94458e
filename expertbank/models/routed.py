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
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.adapters import hooks
from expertbank.adapters.pool import CollapsedExpert, ExpertPool, Stack
from expertbank.adapters.targets import adaptable_modules
from expertbank.backbones import features
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import Batch, collate, plan_batches
from expertbank.backbones.forks import computing
from expertbank.backbones.language import language_head
from expertbank.backbones.running import call_backbone, run_backbone
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
        with hooks.applied({}):
            if self.spec.two_passes:
                last = call_backbone(self.backbone, batch)
                return self._feature({len(self._layers): last}, batch)
            found: list[Tensor] = []

            def finish(feature: Tensor) -> None:
                found.append(feature)
                raise _TrunkDoneError

            try:
                with self._watching(batch, finish):
                    call_backbone(self.backbone, batch)
            except _TrunkDoneError:
                pass
            if not found:
                raise UnsupportedModelError(
                    f"the route layer did not show its input: {hooks.SKIPPED}"
                )
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
        decided: list[tuple[Tensor, tuple[str, ...], Stack, list[int]]] = []

        def choose(feature: Tensor) -> None:
            experts = tuple(decide(feature, batch.rows))
            stack = self.stack(experts)
            index = _places(stack, experts, batch.row_of)
            updates.update(self.updates(stack, index))
            decided.append((feature, experts, stack, index))

        def choose_half_way(feature: Tensor) -> None:
            choose(feature)
            if not decided[0][2].answers or not self._trunk.isdisjoint(updates):
                raise _TrunkDoneError

        output: Any = None
        if self.spec.two_passes:
            choose(self.trunk_features(batch))
        else:
            watching = self._watching(batch, choose_half_way)
            with suppress(_TrunkDoneError), watching, hooks.applied(updates) as added:
                output = run_backbone(self.backbone, batch, keep=write is not None)
            if not decided:
                raise UnsupportedModelError(
                    f"the route layer did not show its input: {hooks.SKIPPED}"
                )
        feature, experts, stack, index = decided[0]
        if not stack.answers:
            nothing = torch.empty(len(experts), 0, device=feature.device)
            return PassOutput(batch.rows, feature, experts, nothing, (None,) * len(experts))
        if output is None:
            with hooks.applied(updates) as added:
                output = run_backbone(self.backbone, batch, keep=write is not None)
        hooks.require_added(updates, added)
        last: Tensor = output.last_hidden_state
        pooled = head_inputs(last, batch, stack.experts, index)
        outputs = stack.logits(pooled, index)
        alone = torch.tensor([stack.scores_sequences[i] for i in index], device=outputs.device)
        logits = logits_by_row(outputs, batch.row_of, alone)
        own = dict(zip(stack.ids, stack.thresholds, strict=True))
        thresholds = tuple(own[e] for e in experts)
        written: tuple[Written | None, ...] = ()
        if write is not None and any(stack.writing):
            logits, written = self._write(batch, output, logits, stack, index, write)
        return PassOutput(batch.rows, feature, experts, logits, thresholds, written)

    def _write(
        self,
        batch: Batch,
        output: Any,
        logits: Tensor,
        stack: Stack,
        index: Sequence[int],
        options: WriteOptions,
    ) -> tuple[Tensor, tuple[Written | None, ...]]:
        """Write the answers of rows whose experts do, and put figures in place of their logits."""
        row_of = batch.row_of.tolist()
        places = [place for place, expert in enumerate(index) if stack.writing[expert] is not None]
        writings = [w for place in places if (w := stack.writing[index[place]]) is not None]
        cache, taken = output.past_key_values, torch.tensor(places, device=logits.device)
        if len(places) < len(index):
            cache.batch_select_indices(taken)
        prompted = Prompted(
            tuple(batch.rows[row_of[place]] for place in places),
            output.last_hidden_state[taken, -1],
            batch.attention_mask[taken],
            cache,
        )
        answers = self.writer.write(
            prompted,
            writings,
            lambda rows: self.updates(stack, [index[places[row]] for row in rows]),
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

    def _watching(
        self, batch: Batch, then: Callable[[Tensor], None]
    ) -> AbstractContextManager[None]:
        """Collect the trunk states of a pass; call ``then`` with the feature at the route layer."""
        states: dict[int, Tensor] = {}

        def watch(number: int) -> features.Observer:
            def observer(state: Tensor) -> None:
                states[number] = state
                if number == self.spec.route_layer:
                    then(self._feature(states, batch))

            return observer

        numbers = {*self.spec.states, self.spec.route_layer}
        return features.observing({self._layers[number]: watch(number) for number in numbers})

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


def _places(stack: Stack, experts: Sequence[str], row_of: Tensor) -> list[int]:
    """For every sequence the place of its row's expert in the stack."""
    order = {expert: place for place, expert in enumerate(stack.ids)}
    by_row = [order[expert] for expert in experts]
    if len(row_of) == len(by_row):
        return by_row
    return [by_row[row] for row in row_of.tolist()]
