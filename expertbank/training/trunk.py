"""Training's own view of the backbone, and the trunk states it need compute only once.

The layers below what is adapted are frozen and always in eval mode, so what they give for a row is
the same in every epoch: the states at the first adapted layer's input are computed once, kept
within a stated number of bytes, and the branch alone is run from them. Trunk and branch are the
expert's own here: they part where it begins, which need not be where its bank routes.

Training works on modules of its own over the same weights (``Backbone.view``). What it hangs on
them or leaves out, no other thread that serves from the backbone can see; and autograd, which
recomputes layers on its own threads, needs no context to find the updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import EVALUATION_BATCH, Batch, collate, plan_batches
from expertbank.backbones.running import call_backbone
from expertbank.records import EncodedRow


class _TrunkDoneError(Exception):
    """Stops a forward pass that only wanted the trunk; never leaves this module."""


class TrainingView:
    """A backbone's modules for one training run: whole passes, the trunk alone, or the branch.

    The model's own ``forward`` always runs, so masks and positions are made as its family makes
    them. For the branch alone every trunk layer hands its input through, and the input of the
    branch's first layer is replaced. Not for use by several threads: each training has its own.

    Args:
        backbone: the frozen model; it stays untouched.
        first_layer: first layer of the branch, the lowest that is adapted.
        checkpoint_layers: recompute the branch layers in the backward pass instead of keeping
            their inner activations.
    """

    def __init__(
        self, backbone: Backbone, first_layer: int, *, checkpoint_layers: bool = False
    ) -> None:
        self.backbone = backbone.view()
        use_fast_attention(self.backbone)
        self.first_layer = first_layer
        self._recalled: Tensor | None = None
        self._watch: Callable[[Tensor], None] | None = None
        layers = self.backbone.layers
        for layer in layers[:first_layer]:
            _set_forward(layer, self._passing(layer.forward))
        layers[first_layer].register_forward_pre_hook(self._enter_branch, with_kwargs=True)
        if checkpoint_layers:
            for layer in layers[first_layer:]:
                _set_forward(layer, _recomputed(layer.forward))

    def last_states(self, batch: Batch, trunk: Tensor | None = None) -> Tensor:
        """Last hidden states ``[sequences, tokens, hidden]``.

        Args:
            batch: padded rows.
            trunk: the batch's states ``[sequences, tokens, hidden]`` at the branch's input,
                to run the branch alone; ``None`` runs the trunk too.
        """
        self._recalled = trunk
        try:
            return call_backbone(self.backbone, batch)
        finally:
            self._recalled = None

    @torch.no_grad()
    def trunk_states(self, batch: Batch) -> Tensor:
        """States ``[sequences, tokens, hidden]`` at the branch's input; runs no branch."""
        found: list[Tensor] = []

        def watch(state: Tensor) -> None:
            found.append(state)
            raise _TrunkDoneError

        self._watch = watch
        try:
            call_backbone(self.backbone, batch)
        except _TrunkDoneError:
            pass
        finally:
            self._watch = None
        return found[0]

    def _passing(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """A trunk layer's ``forward`` that does as little as it can while states are recalled.

        What a layer hands on beside its states, such as T5's bias for positions, the branch needs
        too: a layer that makes it runs, and one that was given it hands it on.
        """
        beside: list[int | None] | None = None

        def pass_through(*args: Any, **kwargs: Any) -> Any:
            nonlocal beside
            given = (*args, *kwargs.values())
            if self._recalled is None:
                output = forward(*args, **kwargs)
                beside = _beside(output, given) if isinstance(output, tuple) else None
                return output
            state = args[0] if args else kwargs["hidden_states"]
            if beside is None:
                return state
            if _MADE in beside:
                return (state, *forward(*args, **kwargs)[1:])
            return (state, *(None if place is None else given[place] for place in beside))

        return pass_through

    def _enter_branch(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._watch is not None:
            self._watch(args[0] if args else kwargs["hidden_states"])
        if self._recalled is None:
            return None
        if args:
            return (self._recalled, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._recalled}


_MADE = -1


def _beside(output: tuple[Any, ...], given: Sequence[Any]) -> list[int | None]:
    """Where a layer has what it gives beside its states: a place in what it was given, or made."""
    found: list[int | None] = []
    for one in output[1:]:
        same = [place for place, other in enumerate(given) if other is one]
        found.append(None if one is None else same[0] if same else _MADE)
    return found


def use_fast_attention(backbone: Backbone) -> None:
    """Plain matrix products where torch's fused attention is slow to differentiate.

    On the CPU its backward pass in bfloat16 took half of a whole training step of MiniLM, at
    sequences of 20 to 50 tokens; in float32 the two are equally fast.
    """
    model: Any = backbone.model
    weight = next(model.parameters())
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16:
        model.set_attn_implementation("eager")


def _set_forward(layer: nn.Module, forward: Callable[..., Any]) -> None:
    # On the instance: hooks, type and attributes of the layer stay as the model expects them.
    layer.forward = forward


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        # Eval mode draws no random numbers, so there is no random state to bring back.
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run


class TrunkCache:
    """Trunk states of some rows, real tokens only, in the backbone's dtype and on its device.

    Computed in the batches of the deterministic plan: the same rows give the same bits, before
    and after an interruption. Re-padded at use to whatever width and side the batch has.

    Args:
        view: gives the states.
        rows: the rows that batches will name by position.
        kept: positions of those to keep, see ``rows_within``.
        advance: told the rows and tokens of every batch computed.
    """

    def __init__(
        self,
        view: TrainingView,
        rows: Sequence[EncodedRow],
        kept: Sequence[int],
        advance: Callable[[int, int], None],
    ) -> None:
        backbone = view.backbone
        weight = next(backbone.model.parameters())
        chosen = [rows[position] for position in kept]
        tokens = sum(map(tokens_of, chosen))
        self.rows = len(chosen)
        self._spans: dict[int, tuple[int, int]] = {}
        # Place 0 is what padding reads: zeros, which every layer turns into finite numbers.
        # [1 + tokens, hidden]
        self._states = weight.new_zeros(1 + tokens if chosen else 0, backbone.hidden_size)
        place = 1
        for part in plan_batches(chosen, EVALUATION_BATCH):
            batch = collate(chosen, part, backbone.tokenizer.pad_token_id, backbone.device)
            real = view.trunk_states(batch)[batch.attention_mask.bool()]
            self._states[place : place + len(real)] = real
            for index in part:
                length = tokens_of(chosen[index])
                self._spans[kept[index]] = (place, place + length)
                place += length
            advance(len(part), len(real))

    @property
    def bytes(self) -> int:
        """Bytes of the states kept."""
        return self._states.numel() * self._states.element_size()

    def recall(self, batch: Batch) -> Tensor | None:
        """The batch's states ``[sequences, tokens, hidden]``; ``None`` if a row is not kept."""
        if not self._spans:
            return None
        spans = [self._spans.get(position) for position in batch.rows]
        if None in spans:
            return None
        # A row's sequences stand one below the other, as they did when they were computed.
        places = torch.cat([torch.arange(*span) for span in spans if span])
        mask = batch.attention_mask
        index = torch.zeros(mask.numel(), dtype=torch.long, device=mask.device)
        index[mask.flatten().bool()] = places.to(mask.device)
        return self._states.index_select(0, index).view(*mask.shape, -1)


def tokens_of(row: EncodedRow) -> int:
    """Real tokens of all its sequences."""
    return sum(len(sequence) for sequence in row.sequences)


def rows_within(rows: Sequence[EncodedRow], limit: int, view: TrainingView) -> list[int]:
    """Positions of rows, shortest first, whose trunk states take at most ``limit`` bytes.

    None without a trunk. Batches hold rows of similar length, so with the short rows kept few
    batches are kept in part, which would not help them.
    """
    weight = next(view.backbone.model.parameters())
    per_token = weight.element_size() * view.backbone.hidden_size
    room = limit // per_token - 1 if view.first_layer else 0
    kept: list[int] = []
    tokens = 0
    for position in sorted(range(len(rows)), key=lambda index: (rows[index].length, index)):
        own = tokens_of(rows[position])
        if tokens + own > room:
            break
        kept.append(position)
        tokens += own
    return kept
