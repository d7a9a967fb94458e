"""Pfeiffer adapters and AdapterFusion over them, by the library ``adapters``.

``fusion.py`` starts it in an environment of its own, with the folder of expertbank on its path:
batches, loop, schedule, clipping, what a head reads and where it starts are the product's code;
the backbone, the adapters and their fusion are the library's.

Run: python adapter_fusion.py ASKED. ASKED is a JSON object: ``backbone`` (folder), ``pad``,
``dtype`` (bfloat16 is autocast: weights that are trained stay in float32), ``rows`` (a file with
``labels`` and encoded ``train``, ``selection`` and ``validation`` rows by task), ``adapters`` (a
folder for those that are trained), ``seed``, ``threads``, and ``runs``, each with ``side``:

- ``adapter``: of ``task`` at ``lr``.
- ``fusion``: over the adapters of all tasks at ``adapter_lr``, with one linear head over all
  classes of all tasks, at ``lr`` for ``epochs`` with ``patience``.
- ``adapter, pair`` and ``fusion, pair``: the same with the product's heads of pairs: adapters of
  tasks of two texts, and the one head over all classes.
- ``as published``: the first adapters by the script that the paper's authors published.

What the folder holds already is not trained again. With ``answer`` a run answers the validation
rows. Each finished run is one line of JSON on standard
output: ``run``, its own number, and what was found.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from adapter_learner import (
    CPU,
    Learner,
    Rows,
    Task,
    in_order,
    inputs,
    targets_of,
    tasks_of,
    text_of,
)
from adapters import AutoAdapterModel, init
from adapters.composition import Fuse
from adapters.methods.modeling import BertFusion
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModel

from expertbank.backbones.batches import collate
from expertbank.config import TrainConfig
from expertbank.training.loop import MAX_GRADIENT_NORM

FILES = {"use_safetensors": True}


def attend(
    self: Any, query: Tensor, key: Tensor, value: Tensor, residual: Tensor, **_: object
) -> Tensor:
    """A fusion's attention over the adapters, the matrices applied where there is least to do.

    The library multiplies every adapter's output ``[rows, tokens, adapters, hidden]`` with key and
    value. A score ``q (W a + b)`` is ``(q W) a`` and what all adapters share, which the softmax
    does not see, and a sum of values is the value of the sum: one product each in place of one for
    each adapter, the same answer, 1.6 times the speed with seven.
    """
    asked = self.query(query) @ self.key.weight
    scores = (key @ asked.unsqueeze(-1)).squeeze(-1)
    weights = torch.softmax(self.dropout(scores), dim=-1)
    fused: Tensor = self.value((weights.unsqueeze(2) @ value).squeeze(2))
    return fused + residual


def attention(told: dict[str, Any]) -> dict[str, str]:
    """In bfloat16 the plain one, which is faster to differentiate on CPUs, as in the product."""
    return {"attn_implementation": "eager"} if told["dtype"] == "bfloat16" else {}


def loaded(told: dict[str, Any]) -> Any:
    """The backbone with room for adapters, without dropout, as the product trains."""
    model = AutoModel.from_pretrained(told["backbone"], **attention(told))
    init(model)
    return model.eval()


def config_of(told: dict[str, Any], run: dict[str, Any]) -> TrainConfig:
    """The product's defaults, but for what a run sets."""
    own = {name: run[name] for name in ("epochs", "patience") if name in run}
    return TrainConfig(seed=told["seed"], lr=run["lr"], **own)


def adapter_folder(told: dict[str, Any], task: str, rate: float, end: str) -> Path:
    return Path(told["adapters"]) / f"{task}-{rate:g}{end}"


def end_of(run: dict[str, Any]) -> str:
    """What names of folders of a run end with."""
    return "-pair" if run["side"].endswith(", pair") else ""


def adapter(told: dict[str, Any], tasks: dict[str, Task], run: dict[str, Any]) -> dict[str, Any]:
    """One Pfeiffer adapter with its head, told which task it answers."""
    name, rate, end = run["task"], run["lr"], end_of(run)
    task, folder = tasks[name], adapter_folder(told, name, rate, end)
    pairs = end and all(row.second[0] for row in task.train)
    torch.manual_seed(told["seed"])
    model = loaded(told)
    model.add_adapter(name, config="seq_bn")
    model.train_adapter(name)
    model.eval()
    learner = Learner(model, task.classes, told, "pair" if pairs else "mean")
    facts = learner.kept(folder, task.train, task.selection, config_of(told, run))
    model.save_adapter(str(folder), name, **FILES)
    if run["answer"]:
        chosen = learner.answers(task.validation).argmax(1)
        facts["right"] = text_of(chosen == targets_of(task.validation))
    return facts


def fused(told: dict[str, Any], tasks: dict[str, Task], model: Any, run: dict[str, Any]) -> Any:
    """The adapters of all tasks, and a fusion over them that learns."""
    for name in tasks:
        folder = adapter_folder(told, name, run["adapter_lr"], end_of(run))
        model.load_adapter(str(folder), load_as=name, **FILES)
    fuse = Fuse(*tasks)
    model.add_adapter_fusion(fuse)
    return fuse


def fusion(told: dict[str, Any], tasks: dict[str, Task], run: dict[str, Any]) -> dict[str, Any]:
    """AdapterFusion with one head over all classes, trained on the rows of all tasks."""
    torch.manual_seed(told["seed"])
    model = loaded(told)
    model.train_adapter_fusion(fused(told, tasks, model, run))
    model.eval()
    end, classes = end_of(run), sum(task.classes for task in tasks.values())
    learner = Learner(model, classes, told, "pair" if end else "mean")
    train, selection = (
        [replace(row, target=task.first + row.target) for task, rows in parts for row in rows]
        for parts in (
            [(task, task.train) for task in tasks.values()],
            [(task, task.selection) for task in tasks.values()],
        )
    )
    name = "fusion-{adapter_lr:g}-{lr:g}-{epochs}-{patience}".format_map(run) + end
    folder = Path(told["adapters"]) / name
    facts = learner.kept(folder, train, selection, config_of(told, run))
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
    model = AutoAdapterModel.from_pretrained(told["backbone"], **attention(told))
    fuse = fused(told, tasks, model, run)
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


SIDES = {
    "adapter": adapter,
    "adapter, pair": adapter,
    "fusion": fusion,
    "fusion, pair": fusion,
    "as published": as_published,
}


def main() -> None:
    told = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(told["threads"])
    BertFusion.forward = attend
    tasks = tasks_of(Path(told["rows"]))
    for number, run in enumerate(told["runs"]):
        print(run, file=sys.stderr, flush=True)
        facts = SIDES[run["side"]](told, tasks, run)
        print(json.dumps({"run": number, **facts}), flush=True)


if __name__ == "__main__":
    main()
