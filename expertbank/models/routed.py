"""The one-pass model: route half-way up the backbone, adapt the layers above, answer.

One forward pass serves a batch whose rows need different experts. The trunk runs unadapted; at
the input of the route layer its pooled states become the routing feature, the caller's
``decide`` names an expert for every row, and the projections above add that expert's update.
The paper runs the backbone twice instead (arXiv 2504.21190, section 3.2).

A pass keeps nothing on the model: concurrent calls cannot see each other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expertbank.adapters import hooks
from expertbank.adapters.pool import ExpertPool, Stack
from expertbank.adapters.targets import adaptable_modules
from expertbank.config import FeatureSpec
from expertbank.errors import IntegrityError
from expertbank.models import features
from expertbank.models.backbone import Backbone
from expertbank.models.batches import Batch, collate, plan_batches
from expertbank.models.heads import head_inputs, logits_by_row
from expertbank.records import EncodedRow

Decide = Callable[[Tensor, Sequence[int]], Sequence[str]]
"""Features ``[rows, dimension]`` and row positions to one expert id per row."""


@dataclass(frozen=True, slots=True)
class PassOutput:
    """What one pass gives.

    Attributes:
        rows: positions of the rows.
        features: ``[rows, dimension]`` float16 routing features.
        experts: chosen expert per row.
        logits: ``[rows, classes]`` float32, ``-inf`` beyond a row's own classes or choices; a
            regression expert's value stands in the first column.
    """

    rows: tuple[int, ...]
    features: Tensor
    experts: tuple[str, ...]
    logits: Tensor


class _TrunkDoneError(Exception):
    """Stops a forward pass that only wanted the trunk; never leaves this module."""


def call_backbone(backbone: Backbone, batch: Batch) -> Tensor:
    """Last hidden states ``[sequences, tokens, hidden]``."""
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
    }
    accepted = inspect.signature(backbone.model.forward).parameters
    # GPT-2 takes token types too, but adds the embeddings of *words* 0 and 1 for them.
    config: Any = backbone.model.config
    if "token_type_ids" in accepted and getattr(config, "type_vocab_size", None):
        inputs["token_type_ids"] = batch.token_type_ids
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    states: Tensor = backbone.model(**inputs).last_hidden_state
    return states


class RoutedModel:
    """A backbone, a pool of experts, and the pass that joins them.

    Args:
        backbone: the frozen model.
        spec: where to route and what the feature is.
        pool: the experts.
    """

    def __init__(self, backbone: Backbone, spec: FeatureSpec, pool: ExpertPool) -> None:
        self.backbone = backbone
        self.spec = spec
        self.pool = pool
        self._layers = backbone.layers
        self._shapes = adaptable_modules(backbone.model, backbone.family, spec.route_layer)
        self._projections = {path: backbone.model.get_submodule(path) for path in self._shapes}
        for projection in self._projections.values():
            hooks.install(projection)
        features.install(self._layers[: spec.route_layer + 1])

    @torch.no_grad()
    def trunk_features(self, batch: Batch) -> Tensor:
        """Routing features ``[rows, dimension]`` alone; the branch is not run."""
        found: list[Tensor] = []

        def finish(feature: Tensor) -> None:
            found.append(feature)
            raise _TrunkDoneError

        try:
            with self._watching(batch, finish):
                call_backbone(self.backbone, batch)
        except _TrunkDoneError:
            pass
        return found[0]

    @torch.no_grad()
    def __call__(self, batch: Batch, decide: Decide) -> PassOutput:
        """Route and answer one batch.

        Args:
            batch: padded rows.
            decide: names an expert for every row; it is called once, half-way up.
        """
        updates: dict[torch.nn.Module, hooks.Update] = {}
        decided: list[tuple[Tensor, tuple[str, ...], Stack, Tensor]] = []

        def choose(feature: Tensor) -> None:
            experts = tuple(decide(feature, batch.rows))
            stack = self.pool.stack(sorted(set(experts)))
            order = {expert: index for index, expert in enumerate(stack.ids)}
            index = torch.tensor([order[expert] for expert in experts], device=feature.device)
            index = index[batch.row_of]
            self._check_fit(stack)
            for path, update in stack.updates_for(index).items():
                updates[self._projections[path]] = update
            decided.append((feature, experts, stack, index))

        with self._watching(batch, choose), hooks.applied(updates):
            last = call_backbone(self.backbone, batch)
        feature, experts, stack, index = decided[0]
        pooled = head_inputs(last, batch.attention_mask, stack.poolings, index)
        outputs = stack.logits(pooled, index)
        logits = logits_by_row(outputs, batch.row_of, stack.per_choice[index])
        return PassOutput(batch.rows, feature, experts, logits)

    def _check_fit(self, stack: Stack) -> None:
        for path, (a, b) in stack.factors.items():
            shape = (a.shape[1], b.shape[2])
            if self._shapes.get(path) != shape:
                raise IntegrityError(
                    f"an expert among {', '.join(stack.ids)} adapts {path} as {shape[0]} by "
                    f"{shape[1]}; the branch of this backbone has no such projection"
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
                    chosen = [states[wanted] for wanted in self.spec.states]
                    feature = features.feature(chosen, batch.attention_mask, self.spec)
                    then(features.mean_by_row(feature, batch.row_of))

            return observer

        numbers = {*self.spec.states, self.spec.route_layer}
        return features.observing({self._layers[number]: watch(number) for number in numbers})

    def batches(self, rows: Sequence[EncodedRow], batch_size: int) -> Iterator[Batch]:
        """Padded batches of ``rows`` by the deterministic length-bucketed plan."""
        for positions in plan_batches(rows, batch_size):
            yield collate(
                rows, positions, self.backbone.tokenizer.pad_token_id, self.backbone.device
            )
