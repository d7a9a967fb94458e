"""The expert while it is trained: live cores and a head, bound to a view of the backbone.

Precision: the backbone's weights and activations have the bank's dtype; cores, head, loss and
optimiser are float32. The update is computed in the backbone's dtype, from factors that are
collapsed in float32. There is no autocast: with the weights themselves in bfloat16 every large
product already runs in it, and the places where float32 matters are few and are said outright
(collapse, pooling, head, loss), so a device without autocast computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from expertbank.adapters import ADAPTERS, Start
from expertbank.adapters.fresh import require_pairs_that_fit
from expertbank.adapters.hooks import bind
from expertbank.adapters.slots import Factors
from expertbank.adapters.targets import targets_of, weight_of
from expertbank.backbones.backbone import Backbone
from expertbank.backbones.batches import Batch, collate
from expertbank.backbones.language import language_head
from expertbank.errors import InputError
from expertbank.kinds import KINDS, Objective
from expertbank.models.heads import head_input, head_width
from expertbank.plugins import unlike
from expertbank.records import EncodedRow, HeadPooling
from expertbank.training.job import ExpertJob
from expertbank.training.trunk import TrainingView, TrunkCache


class Student(nn.Module):
    """Cores and head being trained.

    Args:
        job: what is trained.
        backbone: the frozen model; it stays untouched.
        generator: the only source of randomness.
    """

    def __init__(self, job: ExpertJob, backbone: Backbone, generator: torch.Generator) -> None:
        super().__init__()
        first = job.adapter.start(job.spec)
        targets = targets_of(job.adapter, job.spec, backbone.model, backbone.family)
        self.view = TrainingView(backbone, first, checkpoint_layers=job.config.checkpoint_layers)
        self.rank_one = sum(one.in_features + one.out_features for one in targets)
        self.adapter_kind = ADAPTERS.get(job.adapter.kind)
        self.adapter = self.adapter_kind.fresh(
            Start(
                targets,
                job.adapter,
                job.adapter.multiplier(job.spec),
                generator,
                partial(weight_of, backbone.model),
            )
        )
        require_pairs_that_fit(job.adapter.kind, self.adapter, backbone.model, targets)
        self.kind = KINDS.get(job.kind)
        answers = [row.target for row in job.train if row.target is not None]
        self.objective = self.kind.objective(job.labels, answers, balance=job.config.balance)
        if why := unlike(self.objective, Objective):
            raise InputError(f"what a {job.kind} expert is trained for {why}")
        self.language = language_head(backbone) if self.kind.writes else None
        outputs = self.kind.outputs(job.labels)
        self.pooling = pooling_of(job, backbone)
        width = head_width(backbone.output_size, self.pooling)
        self.head_weight = nn.Parameter(torch.zeros(outputs, width))
        self.head_bias = nn.Parameter(torch.zeros(outputs))
        self.to(backbone.device)
        self.factors: Factors = {}
        self._collapsed: list[Tensor] = []
        self._leaves: list[Tensor] = []
        bind(self.view.backbone.model, lambda: self.factors, list(self.adapter.paths))

    @property
    def head(self) -> list[nn.Parameter]:
        """What is trained beside the adapter."""
        return [] if self.kind.writes else [self.head_weight, self.head_bias]

    def collapse(self) -> None:
        """Contract the cores once; every layer and every micro-batch of the step reads it.

        The layers' gradients end at the factors, where they add up until ``backward_cores``.
        """
        factors = self.adapter.collapse()
        self._collapsed = [factor for pair in factors.values() for factor in pair]
        training = torch.is_grad_enabled()
        self._leaves = [f.detach().requires_grad_(training) for f in self._collapsed]
        pairs = zip(self._leaves[::2], self._leaves[1::2], strict=True)
        self.factors = dict(zip(factors, pairs, strict=True))

    def backward_cores(self) -> None:
        """Carry the gradients that the factors have gathered to the cores, once a step."""
        both = zip(self._collapsed, self._leaves, strict=True)
        # A kind may keep one side fixed.
        learning = [(factor, leaf) for factor, leaf in both if factor.requires_grad]
        torch.autograd.backward(
            [factor for factor, _ in learning], [leaf.grad for _, leaf in learning]
        )

    def batch(self, rows: Sequence[EncodedRow], positions: Sequence[int]) -> Batch:
        """The rows at ``positions``, padded."""
        backbone = self.view.backbone
        return collate(rows, positions, backbone.tokenizer.pad_token_id, backbone.device)

    def pooled(self, batch: Batch, cache: TrunkCache) -> Tensor:
        """``[sequences, head_width]`` what the head reads, with the last ``collapse``'s factors."""
        last = self.view.last_states(batch, cache.recall(batch))
        return head_input(last, batch, self.pooling)

    def answers(
        self, rows: Sequence[EncodedRow], batch: Batch, cache: TrunkCache
    ) -> tuple[Tensor, Tensor]:
        """What the objective compares: logits in float32, and targets.

        ``[rows, classes]`` and the rows' targets; or, where the language model writes, ``[tokens,
        vocabulary]`` before each token of the answers, and those tokens.
        """
        if self.language is None:
            outputs = self.pooled(batch, cache) @ self.head_weight.T + self.head_bias
            return self.objective.logits(outputs, batch.row_of), batch.targets
        last = self.view.last_states(batch, cache.recall(batch))
        before, tokens = answer_places([rows[position] for position in batch.rows])
        width = batch.input_ids.shape[1]
        index = torch.tensor([row * width + place for row, place in before], device=last.device)
        scores = self.language.scores(last.flatten(0, 1)[index])
        return scores, torch.tensor(tokens, device=last.device)

    def gradients(
        self, rows: Sequence[EncodedRow], positions: Sequence[int], parts: int, cache: TrunkCache
    ) -> tuple[float, int]:
        """Leave the gradient of the mean loss over ``positions`` in the parameters.

        Args:
            rows: the training rows.
            positions: the rows of one optimiser step.
            parts: micro-batches to run one after the other; each counts by what of it is
                compared: its rows, or the tokens of its answers.
            cache: trunk states of ``rows``.

        Returns:
            The mean loss and the number of real tokens.
        """
        self.collapse()
        total, tokens = 0.0, 0
        every = _compared(rows, positions)
        for part in split(positions, parts):
            batch = self.batch(rows, part)
            loss = self.objective.loss(*self.answers(rows, batch, cache))
            loss = loss * (_compared(rows, part) / every)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            total += float(loss.detach())
            tokens += sum(len(sequence) for p in part for sequence in rows[p].sequences)
        self.backward_cores()
        return total, tokens

    def tensors(self) -> dict[str, Tensor]:
        """Cores and head as they are stored: copies on the CPU."""
        weight, bias = self.objective.finish(self.head_weight, self.head_bias)
        head = {} if self.kind.writes else {"head.weight": weight, "head.bias": bias}
        return {
            **self.adapter.to_tensors(),
            **{name: tensor.detach().cpu().clone() for name, tensor in head.items()},
        }


def pooling_of(job: ExpertJob, backbone: Backbone) -> HeadPooling:
    """What the head reads: what was wished, or else the family's way.

    That is ``pair`` instead of the mean where every row has two texts and a label. For numbers, and
    for choices, each of which stands beside the row's text, that was not found to be better.
    """
    if job.adapter.pooling != "auto":
        return job.adapter.pooling
    own, kind = backbone.family.pooling, KINDS.get(job.kind)
    better = own == "mean" and not (kind.scores_sequences or kind.answers_are_values)
    return "pair" if better and all(row.second for row in job.train) else own


def _compared(rows: Sequence[EncodedRow], positions: Sequence[int]) -> int:
    """Over how many things the mean loss of these rows is: rows, or tokens that are written."""
    return sum(len(rows[position].continuation) or 1 for position in positions)


def answer_places(
    rows: Sequence[EncodedRow],
) -> tuple[list[tuple[int, int]], list[int]]:
    """Where the tokens before those of answers stand, as row and place in it, and the answers'.

    Args:
        rows: as ``read_through`` made them.
    """
    before: list[tuple[int, int]] = []
    tokens: list[int] = []
    for number, row in enumerate(rows):
        start = row.length - len(row.continuation)
        before += [(number, place - 1) for place in range(start, row.length)]
        tokens += row.continuation
    return before, tokens


def read_through(row: EncodedRow, template: tuple[int, ...]) -> EncodedRow:
    """The row as training reads it: prompt, template and answer in one sequence."""
    row = row.to_write_on
    (sequence,), (types,) = row.sequences, row.type_ids
    more = (*template, *row.continuation)
    return replace(row, sequences=((*sequence, *more),), type_ids=((*types, *(0 for _ in more)),))


def split(positions: Sequence[int], parts: int) -> list[Sequence[int]]:
    """``positions`` in order, cut into at most ``parts`` parts whose sizes differ by one."""
    parts = min(parts, len(positions))
    ends = [len(positions) * part // parts for part in range(parts + 1)]
    return [positions[start:end] for start, end in pairwise(ends)]
