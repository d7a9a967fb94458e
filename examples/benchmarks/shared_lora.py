"""The usual way, to compare with: one LoRA for all tasks, trained on task after task.

One adapter (peft, r = 16, query and value) is trained on each task in turn, with a head per task
that is trained with its task and then left alone. What the adapter learns last overwrites what it
learned first; how much is what backward transfer measures. Used by ``twelve_tasks.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from expertbank.backbones.backbone import load_backbone
from expertbank.backbones.batches import (
    EVALUATION_BATCH,
    Batch,
    collate,
    plan_batches,
    shuffled_batches,
)
from expertbank.data import encode_rows
from expertbank.kinds import KINDS
from expertbank.kinds.sequences import logits_by_row
from expertbank.models.heads import head_input
from expertbank.records import EncodedRow, Row


@dataclass(frozen=True, slots=True)
class LoraTask:
    """Rows of one task: the same that the expert was trained and measured on."""

    name: str
    kind: str
    labels: tuple[str, ...]
    train: Sequence[Row]
    validation: Sequence[Row]


class SharedLora:
    """One backbone with one adapter and a head per task."""

    def __init__(self, reference: str, *, dtype: str, max_length: int, seed: int) -> None:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(seed)
        backbone = load_backbone(reference, device="cpu", dtype=dtype)
        self._tokenizer, self._pooling = backbone.tokenizer, backbone.family.pooling
        self._width, self._max_length = backbone.hidden_size, max_length
        config = LoraConfig(r=16, lora_alpha=16, target_modules=["query", "value"])
        self._model = get_peft_model(backbone.model, config)
        self._heads: dict[str, nn.Linear] = {}
        self._seed = seed
        self.adapter_params = sum(p.numel() for p in self._model.parameters() if p.requires_grad)

    def learn(self, task: LoraTask, *, epochs: int, lr: float, batch_size: int) -> None:
        """Train adapter and the task's head on the task alone."""
        rows = self._encoded(task, task.train)
        head = nn.Linear(self._width, KINDS.get(task.kind).outputs(task.labels))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        adapter = [p for p in self._model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            [{"params": adapter, "lr": lr}, {"params": head.parameters(), "lr": 1e-3}]
        )
        steps = epochs * -(-len(rows) // batch_size)
        rate = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [lr, 1e-3], total_steps=max(steps, 2), pct_start=0.06
        )
        generator = torch.Generator().manual_seed(self._seed)
        self._model.train()
        for _ in range(epochs):
            for positions in shuffled_batches(rows, batch_size, generator):
                batch = collate(rows, positions, self._tokenizer.pad_token_id, torch.device("cpu"))
                loss = F.cross_entropy(self._logits(batch, head, task), batch.targets.long())
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                rate.step()
        self._heads[task.name] = head.requires_grad_(False)

    @torch.no_grad()
    def accuracy(self, task: LoraTask) -> float:
        """Share of the task's validation rows answered rightly now, with the task named."""
        self._model.eval()
        right = 0
        rows = self._encoded(task, task.validation)
        for batch in self._batches(rows):
            logits = self._logits(batch, self._heads[task.name], task)
            right += int((logits.argmax(1) == batch.targets.long()).sum())
        return right / len(rows)

    def _encoded(self, task: LoraTask, rows: Sequence[Row]) -> list[EncodedRow]:
        kind = KINDS.get(task.kind)
        return list(encode_rows(rows, self._tokenizer, kind, task.labels, self._max_length))

    def _batches(self, rows: Sequence[EncodedRow]) -> Iterator[Batch]:
        for positions in plan_batches(rows, EVALUATION_BATCH):
            yield collate(rows, positions, self._tokenizer.pad_token_id, torch.device("cpu"))

    def _logits(self, batch: Batch, head: nn.Linear, task: LoraTask) -> Tensor:
        given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if "token_type_ids" in self._tokenizer.model_input_names:
            given["token_type_ids"] = batch.token_type_ids
        last = self._model(**given).last_hidden_state
        pooled = head_input(last, batch, self._pooling)
        alone = torch.full((len(batch.row_of),), KINDS.get(task.kind).scores_sequences)
        return logits_by_row(head(pooled), batch.row_of, alone)
