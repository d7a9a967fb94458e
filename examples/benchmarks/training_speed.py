"""Training tokens a second: TT-LoRA as the product trains it, beside LoRA r=16 through PEFT.

Run it with: python examples/benchmarks/training_speed.py ../shared/data [--rows 1000] [--rounds 3]

Needs peft and accelerate. Every side trains on the same real rows for the same epochs; the sides
run in turn within each round. A side's time is all of its training call, so what the product
spends on computing trunk states once, on the head's start and on collapsing counts, as do PEFT's
head start and the setting up of each. All sides but the last measure a small held-out set after
each epoch (--held-out rows, counted). The tokens are the real ones, padding left out.

The sides: TT-LoRA on the branch (the default route layer); TT-LoRA from the lowest layer this
version can route at; LoRA on query and value of all layers through PEFT, in the very same batches
with the same head, head start and optimiser; the same LoRA through PEFT and the transformers
Trainer as it comes, with its own random batches, padding and optimiser, but this batch size.
With bfloat16 the product and the second side run weights in bfloat16, the Trainer its autocast.
Aimed at: the branch at least 1.3 times as fast as PEFT on the same batches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from lora_baseline import ROLES, LoraSettings, train_lora
from machine import describe
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)
from trials import added_job

from expertbank import AdapterConfig, TrainConfig
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.config import DEFAULT_BACKBONE
from expertbank.errors import InputError
from expertbank.training.expert import ExpertJob, train_expert

Side = Callable[[], int]
"""Trains once and says on how many real tokens."""


def with_trainer(job: ExpertJob, backbone: Backbone, bf16: bool) -> int:
    """LoRA r=16 with a classification head through the Trainer's own defaults."""
    config = job.config
    model = AutoModelForSequenceClassification.from_pretrained(
        backbone.place.path, num_labels=len(job.labels)
    )
    lora = LoraConfig(task_type=TaskType.SEQ_CLS, r=16, lora_alpha=32, target_modules=list(ROLES))
    rows = [
        {
            "input_ids": list(row.sequences[0]),
            "token_type_ids": list(row.type_ids[0]),
            "labels": int(target),
        }
        for row in job.train
        if (target := row.target) is not None
    ]
    with tempfile.TemporaryDirectory() as folder:
        Trainer(
            get_peft_model(model, lora),
            TrainingArguments(
                folder,
                num_train_epochs=config.epochs,
                per_device_train_batch_size=config.batch_size,
                seed=config.seed,
                bf16=bf16,
                use_cpu=True,
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(backbone.tokenizer),
        ).train()
    return config.epochs * sum(len(row["input_ids"]) for row in rows)


def lowest_job(job: ExpertJob) -> ExpertJob:
    """The same job with adapters from the lowest layer that a route layer can be."""
    for layer in (0, 1):
        try:
            spec = replace(job.spec, route_layer=layer, states=(layer,))
        except InputError:
            continue
        return replace(job, spec=spec)
    raise AssertionError("no lowest layer")


def sides_of(
    options: argparse.Namespace, dtype: str, train: TrainConfig
) -> tuple[dict[str, Side], ExpertJob]:
    """Every side at one precision, by the name its row gets, and the job of the first."""
    backbone = load_backbone(options.backbone, dtype=dtype)
    spec = backbone.default_feature_spec(max_length=options.max_length, dtype=dtype)
    jobs = [
        added_job(task, options.data / task, backbone, spec, AdapterConfig(), train, judging=1)[0]
        for task in options.tasks
    ]
    # Rows of several tasks in one job: what they are about does not matter to the clock.
    rows = tuple(row for job in jobs for row in job.train)
    held_out = tuple(row for job in jobs for row in job.selection)[: options.held_out]
    labels = max((job.labels for job in jobs), key=len)
    job = replace(jobs[0], train=rows, selection=held_out, labels=labels)
    lowest = lowest_job(job)
    bf16 = dtype == "bfloat16"
    return {
        f"TT-LoRA, layers {spec.route_layer} and up": lambda: train_expert(job, backbone).tokens,
        f"TT-LoRA, layers {lowest.spec.route_layer} and up": lambda: (
            train_expert(lowest, backbone).tokens
        ),
        "PEFT LoRA, same batches": lambda: train_lora(job, backbone, LoraSettings(1e-3)).tokens,
        "PEFT LoRA, Trainer": lambda: with_trainer(job, backbone, bf16),
    }, job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one folder per task")
    parser.add_argument("--tasks", nargs="+", default=("sst2", "mrpc"))
    parser.add_argument("--rows", type=int, default=500, help="most training rows of each task")
    parser.add_argument("--held-out", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--dtypes", nargs="+", default=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    describe(options.seed)
    train = TrainConfig(
        epochs=options.epochs,
        patience=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        limit=options.rows,
    )
    for dtype in options.dtypes:
        sides, job = sides_of(options, dtype, train)
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                started = time.perf_counter()
                tokens = side()
                rates[name].append(tokens / (time.perf_counter() - started))
        reference = rates["PEFT LoRA, same batches"]
        total = sum(row.length for row in job.train)
        print(f"{len(job.train):,} rows, {total:,} tokens, {options.epochs} epochs, {dtype}")
        print("| side | tokens a second | times PEFT on the same batches |")
        print("|---|---|---|")
        for name, own in rates.items():
            ratios = [one / other for one, other in zip(own, reference, strict=True)]
            print(
                f"| {name} | {statistics.median(own):,.0f} | {statistics.median(ratios):.2f} |",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()
