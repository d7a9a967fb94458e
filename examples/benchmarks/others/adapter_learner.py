"""Rows, and a model with a head that learns them as the product's experts learn.

A part of ``adapter_fusion.py``, which see.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from expertbank.backbones.batches import (
    EVALUATION_BATCH,
    Batch,
    collate,
    plan_batches,
    shuffled_batches,
)
from expertbank.config import TrainConfig
from expertbank.kinds.probe import probe_head
from expertbank.models.heads import head_input, head_width
from expertbank.records import EncodedRow, HeadPooling, no_progress
from expertbank.training.loop import Meter, adamw, optimise

CPU = torch.device("cpu")
Rows = list[EncodedRow]


@dataclass(frozen=True)
class Task:
    """A task's rows; targets are places among its own classes.

    Attributes:
        first: place of its first class among those of all tasks.
        classes: how many it has.
    """

    first: int
    classes: int
    train: Rows
    selection: Rows
    validation: Rows


def tasks_of(path: Path) -> dict[str, Task]:
    """The tasks of a file of rows, in its order."""
    told = json.loads(path.read_text())
    counts = [len(one["labels"]) for one in told.values()]
    firsts = [0, *accumulate(counts)]

    def rows(found: Sequence[Any]) -> Rows:
        return [
            EncodedRow((tuple(ids),), (tuple(types),), target, second=(second_text(types),))
            for ids, types, target in found
        ]

    return {
        name: Task(
            first, count, *(rows(one[part]) for part in ("train", "selection", "validation"))
        )
        for (name, one), first, count in zip(told.items(), firsts, counts, strict=False)
    }


def second_text(types: list[int]) -> int:
    """Where the second text begins among tokens of these types, 0 without one."""
    return types.index(1) if 1 in types else 0


class Learner:
    """A model of the library and a linear head on its states, as the product's heads are.

    Args:
        model: with what is trained beside the head.
        classes: outputs of the head.
        told: see ``adapter_fusion.py``.
        pooling: what the head reads.
    """

    def __init__(
        self, model: Any, classes: int, told: dict[str, Any], pooling: HeadPooling = "mean"
    ) -> None:
        self.model, self.pad, self.pooling = model, told["pad"], pooling
        self.half = told["dtype"] == "bfloat16"
        width = head_width(model.config.hidden_size, pooling)
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))

    @property
    def trained(self) -> list[nn.Parameter]:
        """What is trained beside the head."""
        return [one for one in self.model.parameters() if one.requires_grad]

    def batch(self, rows: Rows, positions: Sequence[int]) -> Batch:
        return collate(rows, positions, self.pad, CPU)

    def pooled(self, batch: Batch) -> Tensor:
        """``[rows, width]`` what the head reads."""
        last = states(self.model, batch, half=self.half)
        return head_input(last, batch, self.pooling)

    def logits(self, batch: Batch) -> Tensor:
        return self.pooled(batch) @ self.weight.T + self.bias

    @torch.no_grad()
    def start(self, rows: Rows) -> None:
        """Fit the head to the states as they are, as the product does."""
        parts = [self.batch(rows, plan) for plan in plan_batches(rows, EVALUATION_BATCH)]
        seen = torch.cat([self.pooled(part) for part in parts])
        targets = torch.cat([part.targets for part in parts]).long()
        weight, bias = probe_head(seen, targets, len(self.bias))
        self.weight.copy_(weight)
        self.bias.copy_(bias)

    @torch.no_grad()
    def answers(self, rows: Rows) -> Tensor:
        """``[rows, classes]`` logits in the rows' order."""
        return in_order(rows, lambda plan: self.logits(self.batch(rows, plan)))

    def penalty(self) -> Tensor | None:
        """What the library adds to the loss of a fusion."""
        found: Tensor | None = self.model.get_fusion_regularization_loss()
        return found

    def tensors(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        named = {n: one.data for n, one in self.model.named_parameters() if one.requires_grad}
        return {"head.weight": self.weight.data, "head.bias": self.bias.data, **named}

    def kept(
        self, folder: Path, train: Rows, selection: Rows, config: TrainConfig
    ) -> dict[str, Any]:
        """``learn``, or what an earlier run of the same has left in ``folder``."""
        learned, about = folder / "learned.safetensors", folder / "facts.json"
        if not about.is_file():
            facts = self.learn(train, selection, config)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(self.tensors(), learned)
            about.write_text(json.dumps(facts))
        found = load_file(learned)
        for name, tensor in self.tensors().items():
            tensor.copy_(found[name])
        return dict(json.loads(about.read_text()))

    def learn(self, train: Rows, selection: Rows, config: TrainConfig) -> dict[str, Any]:
        """Train as ``train_expert`` does, and keep the best epoch on the held-out rows."""
        began = time.monotonic()
        self.start(train)
        everything = [*self.trained, self.weight, self.bias]
        generator = torch.Generator().manual_seed(config.seed)
        plans = [
            shuffled_batches(train, config.batch_size, generator) for _ in range(config.epochs)
        ]
        best: tuple[float, float] | None = None
        kept: list[Tensor] = []
        best_epoch, curve = 0, []

        def gradient(positions: Sequence[int]) -> tuple[float, int]:
            batch = self.batch(train, positions)
            loss = cross_entropy(self.logits(batch), batch.targets.long())
            penalty = self.penalty()
            (loss if penalty is None else loss + penalty).backward()
            return float(loss.detach()), batch.tokens

        def keep_best(epoch: int) -> bool:
            nonlocal best, kept, best_epoch
            logits, targets = self.answers(selection), targets_of(selection)
            score = float((logits.argmax(1) == targets).double().mean())
            found = score, -float(cross_entropy(logits, targets))
            curve.append(score)
            if best is None or found > best:
                best, best_epoch = found, epoch + 1
                kept = [tensor.detach().clone() for tensor in everything]
            print(f"epoch {epoch + 1}: {score:.4f}", file=sys.stderr, flush=True)
            return epoch + 1 - best_epoch >= config.patience

        meter = Meter("adapters", len(train) * config.epochs, no_progress)
        rates = [(self.trained, config.lr), ([self.weight, self.bias], config.head_lr)]
        optimiser = adamw(rates, config.weight_decay)
        for step in optimise(optimiser, plans, gradient, warmup=config.warmup, meter=meter):
            if step.ends_epoch and keep_best(step.epoch):
                break
        assert best is not None
        with torch.no_grad():
            for tensor, own in zip(everything, kept, strict=True):
                tensor.copy_(own)
        return {
            "params": sum(one.numel() for one in self.trained),
            "head_params": self.weight.numel() + self.bias.numel(),
            "selection": best[0],
            "selection_loss": -best[1],
            "best_epoch": best_epoch,
            "curve": curve,
            "seconds": round(time.monotonic() - began, 1),
            "tokens": meter.tokens,
        }


def states(model: Any, batch: Batch, *, half: bool) -> Tensor:
    """``[rows, tokens, hidden]`` last hidden states."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        last: Tensor = model(**inputs(batch)).last_hidden_state
    return last


def inputs(batch: Batch) -> dict[str, Tensor]:
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "token_type_ids": batch.token_type_ids,
    }


@torch.no_grad()
def in_order(rows: Rows, answer: Callable[[Sequence[int]], Tensor]) -> Tensor:
    """``[rows, classes]`` from answers to batches of them."""
    plans = plan_batches(rows, EVALUATION_BATCH)
    found = torch.cat([answer(plan).float() for plan in plans])
    return found[torch.tensor([place for plan in plans for place in plan]).argsort()]


def targets_of(rows: Rows) -> Tensor:
    return torch.tensor([int(row.target) for row in rows])


def text_of(right: Tensor) -> str:
    return "".join(map(str, right.int().tolist()))
