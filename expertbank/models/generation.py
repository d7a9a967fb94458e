"""Generation with routed experts: one choice a prompt, made at the prompt, kept to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from expertbank.adapters import hooks
from expertbank.backbones import features
from expertbank.backbones.batches import collate
from expertbank.backbones.forks import computing
from expertbank.errors import InputError, UnsupportedModelError
from expertbank.models.routed import Decide, RoutedModel
from expertbank.records import EncodedRow


class Generation:
    """What is decided for the prompts of one generation; made by ``generating``.

    Args:
        model: the one-pass model.
        input_ids: ``[prompts, tokens]``.
        mask: ``[prompts, tokens]``.
        decide: names an expert for every prompt.
    """

    def __init__(self, model: RoutedModel, input_ids: Tensor, mask: Tensor, decide: Decide) -> None:
        self._model = model
        self._input_ids = input_ids
        self._mask = mask
        self._decide = decide
        self._sequences = 0
        self.passes = 0
        self._experts: tuple[str, ...] = ()
        self._collect: dict[nn.Module, features.Observer] = {}
        self.updates: dict[nn.Module, hooks.Update] = {}

    @property
    def experts(self) -> tuple[str, ...]:
        """The expert of every prompt; empty until the first forward pass has decided."""
        return self._experts

    def observers(self) -> dict[nn.Module, features.Observer]:
        """What the trunk's layers tell this generation."""
        layers = self._model.backbone.layers
        if not self._model.spec.two_passes:
            self._collect = self._model.trunk_observers(self._states_seen)
        observers = {layer: self._collected(layer) for layer in self._collect}
        observers[layers[0]] = self._begun
        return observers

    def _collected(self, layer: nn.Module) -> features.Observer:
        def observer(state: Tensor) -> None:
            if not self._experts:
                self._collect[layer](state)

        return observer

    def _begun(self, state: Tensor) -> None:
        """The first layer's input: is it the batch that was announced, and all of its prompt?"""
        prompts = len(self._mask)
        sequences = state.shape[0] if state.dim() == 3 else 0
        expected = self._sequences or (sequences // prompts) * prompts
        if sequences == 0 or sequences != expected or _is_paged(self._model):
            raise UnsupportedModelError(
                f"{sequences} sequences run through the backbone while {prompts} prompts are "
                "being generated: continuous batching, or a batch that changes its size, would "
                "mix up whose expert is whose. Generate each batch in a block of its own, with "
                "generate() and a plain attention implementation"
            )
        self.passes += 1
        if self._sequences:
            return
        self._sequences = sequences
        first = self._model.backbone.layers[0]
        if self._model.spec.two_passes or state.shape[1] != self._mask.shape[1]:
            self._settle(self._prompt_features())
        elif first in self._collect:
            self._collect[first](state)

    def _states_seen(self, states: Mapping[int, Tensor]) -> None:
        copies = self._sequences // len(self._mask)
        spec = self._model.spec
        chosen = [states[wanted][::copies] for wanted in spec.states]
        self._settle(features.feature(chosen, self._mask, spec))

    def _prompt_features(self) -> Tensor:
        """Features from an unadapted pass over the prompts, padded on the right."""
        rows = []
        for ids, real in zip(self._input_ids, self._mask.bool(), strict=True):
            sequence = tuple(ids[real].tolist())
            rows.append(EncodedRow((sequence,), ((0,) * len(sequence),)))
        backbone = self._model.backbone
        pad = backbone.tokenizer.pad_token_id
        batch = collate(rows, range(len(rows)), pad, backbone.device)
        with features.observing({}):  # this pass is not one of the generation's
            return self._model.trunk_features(batch)

    def _settle(self, feature: Tensor) -> None:
        prompts = range(len(self._mask))
        experts = tuple(self._decide(feature, prompts))
        stack = self._model.stack(experts)
        copies = self._sequences // len(prompts)
        place = {expert: number for number, expert in enumerate(stack.ids)}
        index = [place[expert] for expert in experts for _ in range(copies)]
        self.updates.update(self._model.updates(stack, index))
        self._experts = experts


def _is_paged(model: RoutedModel) -> bool:
    config = getattr(model.backbone.model, "config", None)
    return str(getattr(config, "_attn_implementation", "")).startswith("paged")


@contextmanager
def generating(
    model: RoutedModel, input_ids: Tensor, attention_mask: Tensor, decide: Decide
) -> Iterator[Generation]:
    """Within the block, in this thread, generation from this prompt runs with routed experts.

    The language model must be built around this very backbone
    (``causal.model is routed.backbone.model``). The choice is made once, at the prompt, and
    kept for all decode steps: half-way up the first forward pass when that pass reads the
    whole prompt, else, such as in chunked prefill, by a trunk pass of its own before it.
    Sampling several sequences and beam search keep a prompt's choice for all its copies.

        with generating(routed, ids, mask, decide) as made:
            tokens = causal.generate(input_ids=ids, attention_mask=mask)
        made.experts  # one a prompt

    Args:
        model: the one-pass model.
        input_ids: ``[prompts, tokens]``, padded on either side.
        attention_mask: ``[prompts, tokens]``, 1 on real tokens.
        decide: names an expert for every prompt.

    Raises:
        UnsupportedModelError: continuous batching, which packs prompts into one sequence,
            or ``DataParallel``, or a compiled backbone that ran without some of its hooks.
        InputError: the block ended and the backbone never ran in this thread, or it ran on
            other prompts: the answer was not adapted.
    """
    if input_ids.shape != attention_mask.shape or input_ids.dim() != 2:
        raise InputError(
            f"prompts {list(input_ids.shape)} and mask {list(attention_mask.shape)} must both "
            "be [prompts, tokens]"
        )
    if not bool(attention_mask.bool().any(1).all()):
        raise InputError("a prompt has no real token: its attention mask is all 0")
    if _is_paged(model):
        raise UnsupportedModelError(
            "continuous batching packs prompts into one sequence; load the model with another "
            "attention implementation and generate each batch by itself"
        )
    generation = Generation(model, input_ids, attention_mask, decide)
    with (
        computing(),
        features.observing(generation.observers()),
        hooks.applied(generation.updates) as added,
    ):
        yield generation
    if not generation.experts:
        raise InputError(
            "nothing was routed: the backbone did not run in this thread within the block, so "
            "what was generated is not adapted. The language model must be built around this "
            "backbone, must not generate in a thread of its own (generate_batch does), and must "
            "not have been compiled and run before the experts were attached"
        )
    hooks.require_added(generation.updates, added, generation.passes)
