"""Pfeiffer adapters and AdapterFusion over them, by the library ``adapters``.

``fusion.py`` starts it in an environment of its own, with the folder of expertbank on its path:
batches, loop, schedule, clipping, what a head reads and where it starts are the product's code;
the backbone, the adapters and their fusion are the library's.

Run: python adapter_fusion.py ASKED. ASKED is a JSON object: ``backbone`` (folder), ``pad``,
``dtype`` (bfloat16 is autocast: weights that are trained stay in float32), ``rows`` (a file with
``labels`` and encoded ``train``, ``selection`` and ``validation`` rows by task), ``adapters`` (a
folder for those that are trained), ``seed``, ``threads``, and ``runs``, each with ``side``:

- ``adapter``: of ``task`` at ``lr``; trained if it is not in the folder.
- ``fusion``: over the adapters of all tasks at ``adapter_lr``, with one linear head over all
  classes of all tasks, at ``lr`` for ``epochs`` with ``patience``.
- ``as published``: the same adapters by the script that the paper's authors published.

With ``answer`` a run answers the validation rows. Each finished run is one line of JSON on standard
output: ``run``, its own number, and what was found.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from adapters import AutoAdapterModel, init
from adapters.composition import Fuse
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from expertbank.backbones.batches import (
    EVALUATION_BATCH,
    Batch,
    collate,
    plan_batches,
    shuffled_batches,
)
from expertbank.config import TrainConfig
from expertbank.kinds.probe import probe_head
from expertbank.models.heads import head_input
from expertbank.records import EncodedRow, no_progress
from expertbank.training.loop import MAX_GRADIENT_NORM, Meter, optimise

CPU = torch.device("cpu")
FILES = {"use_safetensors": True}
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
        return [EncodedRow((tuple(ids),), (tuple(types),), target) for ids, types, target in found]

    return {
        name: Task(
            first, count, *(rows(one[part]) for part in ("train", "selection", "validation"))
        )
        for (name, one), first, count in zip(told.items(), firsts, counts, strict=False)
    }


class Learner:
    """A model of the library and a linear head on its states, as the product's heads are."""

    def __init__(self, model: Any, classes: int, told: dict[str, Any]) -> None:
        self.model, self.pad = model, told["pad"]
        self.half = told["dtype"] == "bfloat16"
        self.weight = nn.Parameter(torch.zeros(classes, model.config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(classes))

    @property
    def trained(self) -> list[nn.Parameter]:
        """What is trained beside the head."""
        return [one for one in self.model.parameters() if one.requires_grad]

    def batch(self, rows: Rows, positions: Sequence[int]) -> Batch:
        return collate(rows, positions, self.pad, CPU)

    def pooled(self, batch: Batch) -> Tensor:
        """``[rows, hidden]`` what the head reads."""
        last = states(self.model, batch, half=self.half)
        return head_input(last, batch.attention_mask, "mean")

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

        def step(positions: Sequence[int]) -> tuple[float, int, int]:
            batch = self.batch(train, positions)
            loss = cross_entropy(self.logits(batch), batch.targets.long())
            penalty = self.penalty()
            (loss if penalty is None else loss + penalty).backward()
            return float(loss.detach()), len(positions), batch.tokens

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
        optimise(
            [(self.trained, config.lr), ([self.weight, self.bias], config.head_lr)],
            [[partial(step, positions) for positions in plan] for plan in plans],
            weight_decay=config.weight_decay,
            warmup=config.warmup,
            meter=meter,
            after_epoch=keep_best,
        )
        assert best is not None
        with torch.no_grad():
            for tensor, own in zip(everything, kept, strict=True):
                tensor.copy_(own)
        return {
            "params": sum(one.numel() for one in self.trained),
            "head_params": self.weight.numel() + self.bias.numel(),
            "selection": best[0],
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


def loaded(told: dict[str, Any]) -> Any:
    """The backbone with room for adapters, without dropout, as the product trains."""
    model = AutoModel.from_pretrained(told["backbone"])
    init(model)
    return model.eval()


def config_of(told: dict[str, Any], run: dict[str, Any]) -> TrainConfig:
    """The product's defaults, but for what a run sets."""
    own = {name: run[name] for name in ("epochs", "patience") if name in run}
    return TrainConfig(seed=told["seed"], lr=run["lr"], **own)


def adapter_folder(told: dict[str, Any], task: str, rate: float) -> Path:
    return Path(told["adapters"]) / f"{task}-{rate:g}"


def adapter(told: dict[str, Any], tasks: dict[str, Task], run: dict[str, Any]) -> dict[str, Any]:
    """One Pfeiffer adapter with its head, told which task it answers."""
    name, rate = run["task"], run["lr"]
    task, folder = tasks[name], adapter_folder(told, name, rate)
    torch.manual_seed(told["seed"])
    model = loaded(told)
    learner = Learner(model, task.classes, told)
    if (folder / "facts.json").is_file():
        model.load_adapter(str(folder), load_as=name, set_active=True, **FILES)
        head = load_file(folder / "head.safetensors")
        learner.weight.data, learner.bias.data = head["weight"], head["bias"]
        facts = json.loads((folder / "facts.json").read_text())
    else:
        model.add_adapter(name, config="seq_bn")
        model.train_adapter(name)
        model.eval()
        facts = learner.learn(task.train, task.selection, config_of(told, run))
        folder.mkdir(parents=True, exist_ok=True)
        model.save_adapter(str(folder), name, **FILES)
        head = {"weight": learner.weight.data, "bias": learner.bias.data}
        save_file(head, folder / "head.safetensors")
        (folder / "facts.json").write_text(json.dumps(facts))
    if run["answer"]:
        chosen = learner.answers(task.validation).argmax(1)
        facts["right"] = text_of(chosen == targets_of(task.validation))
    return facts


def fused(told: dict[str, Any], tasks: dict[str, Task], model: Any, rate: float) -> Any:
    """The adapters of all tasks, and a fusion over them that learns."""
    for name in tasks:
        model.load_adapter(str(adapter_folder(told, name, rate)), load_as=name, **FILES)
    fuse = Fuse(*tasks)
    model.add_adapter_fusion(fuse)
    return fuse


def fusion(told: dict[str, Any], tasks: dict[str, Task], run: dict[str, Any]) -> dict[str, Any]:
    """AdapterFusion with one head over all classes, trained on the rows of all tasks."""
    torch.manual_seed(told["seed"])
    model = loaded(told)
    model.train_adapter_fusion(fused(told, tasks, model, run["adapter_lr"]))
    model.eval()
    learner = Learner(model, sum(task.classes for task in tasks.values()), told)
    train, selection = (
        [replace(row, target=task.first + row.target) for task, rows in parts for row in rows]
        for parts in (
            [(task, task.train) for task in tasks.values()],
            [(task, task.selection) for task in tasks.values()],
        )
    )
    facts = learner.learn(train, selection, config_of(told, run))
    if not run["answer"]:
        return facts
    facts |= {"right": {}, "named": {}, "sent": {}}
    for name, task in tasks.items():
        logits, targets = learner.answers(task.validation), targets_of(task.validation)
        chosen, last = logits.argmax(1), task.first + task.classes
        facts["right"][name] = text_of(chosen == task.first + targets)
        facts["named"][name] = text_of(logits[:, task.first : last].argmax(1) == targets)
        facts["sent"][name] = text_of((chosen >= task.first) & (chosen < last))
    return facts


def as_published(
    told: dict[str, Any], tasks: dict[str, Task], run: dict[str, Any]
) -> dict[str, Any]:
    """AdapterFusion as in lanl/TTLoRAMoE, Artifact_1.3/adapterfusion.py, for mixed data.

    One epoch at 5e-5, eight rows a batch, the defaults of ``TrainingArguments`` (AdamW without
    decay, linear decay of the rate, clipping at 1, dropout), the library's classification head
    with as many outputs as the largest task has classes, shared by all tasks: an answer is the
    place of a class, and whose class it is is neither asked nor judged.
    """
    began = time.monotonic()
    torch.manual_seed(told["seed"])
    model = AutoAdapterModel.from_pretrained(told["backbone"])
    fuse = fused(told, tasks, model, run["adapter_lr"])
    model.add_classification_head("mixed", num_labels=max(t.classes for t in tasks.values()))
    model.train_adapter_fusion(fuse)
    model.train()
    half, rows = told["dtype"] == "bfloat16", [r for task in tasks.values() for r in task.train]

    def batch_logits(asked: Rows, positions: Sequence[int]) -> Tensor:
        batch = collate(asked, positions, told["pad"], CPU)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            found: Tensor = model(**inputs(batch), head="mixed").logits
        return found.float()

    targets = targets_of(rows)
    learning = [one for one in model.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=run["lr"], weight_decay=0.0)
    generator = torch.Generator().manual_seed(told["seed"])
    plans = torch.randperm(len(rows), generator=generator).split(run["batch_size"])
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / len(plans))
    for plan in plans:
        optimiser.zero_grad()
        cross_entropy(batch_logits(rows, plan.tolist()), targets[plan]).backward()
        model.base_model.get_fusion_regularization_loss().backward()
        torch.nn.utils.clip_grad_norm_(learning, MAX_GRADIENT_NORM)
        optimiser.step()
        decay.step()
    model.eval()
    heads = sum(one.numel() for one in model.heads["mixed"].parameters())
    facts: dict[str, Any] = {
        "params": sum(one.numel() for one in learning) - heads,
        "head_params": heads,
        "seconds": round(time.monotonic() - began, 1),
        "tokens": sum(row.length for row in rows),
        "right": {},
    }
    for name, task in tasks.items():
        found = in_order(task.validation, partial(batch_logits, task.validation))
        facts["right"][name] = text_of(found.argmax(1) == targets_of(task.validation))
    return facts


SIDES = {"adapter": adapter, "fusion": fusion, "as published": as_published}


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(told["threads"])
    tasks = tasks_of(Path(told["rows"]))
    for number, run in enumerate(told["runs"]):
        print(run, file=sys.stderr, flush=True)
        facts = SIDES[run["side"]](told, tasks, run)
        print(json.dumps({"run": number, **facts}), flush=True)


if __name__ == "__main__":
    main()
