"""Routing features of real tasks for the router benchmarks, made once and kept in a folder.

Every benchmark of the router reads the same features: up to 2,000 training and 2,000
validation rows of each classification and multiple-choice task below a data folder, pooled
three ways from every trunk state up to the input of layer 3. A benchmark then picks the blocks
that its feature spec names. Held out of training is every fifth row: what is tuned is tuned
there, validation rows are only reported.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert
from expertbank.backbones.backbone import load_backbone
from expertbank.config import DEFAULT_BACKBONE, FeatureSpec, sha256_text
from expertbank.data import encode_rows, load_task, task_spec
from expertbank.models.routed import RoutedModel
from expertbank.records import RowShape
from expertbank.routing.feature_file import FeatureFile, Spans
from expertbank.routing.sureness import unasked
from expertbank.testing.routers import TaskFeatures
from expertbank.workflows.growing.spans import short_spans
from expertbank.workflows.measure import trunk_features

STATES = (0, 1, 2, 3)
POOLINGS = ("mean", "first", "last")
DEFAULT_STATES, DEFAULT_POOLINGS = (0, 1, 2), ("mean", "last")
EVERY = 5
"""Every fifth training row is held out to tune on."""


@dataclass(frozen=True, slots=True)
class RealTask:
    """Features of one task: ``train`` and ``evaluation`` are ``[rows, dimension]`` float16."""

    name: str
    kind: str
    train: Tensor
    evaluation: Tensor
    train_shapes: tuple[RowShape, ...]
    evaluation_shapes: tuple[RowShape, ...]
    train_tokens: Tensor
    spans: Spans

    def fitted_on(self, *, tuning: bool) -> TaskFeatures:
        """What a router is fitted on: all training rows and spans, or rows but a held-out fifth."""
        keep = [i for i in range(len(self.train)) if not (tuning and i % EVERY == 0)]
        shapes = tuple(self.train_shapes[i] for i in keep)
        return TaskFeatures(
            f"{self.name}@1",
            sha256_text(self.name),
            self.name,
            self.kind,
            None,
            self.train[keep],
            shapes,
            *(() if tuning else (self.train_tokens, self.spans)),
        )

    def tested_on(self, *, tuning: bool) -> tuple[Tensor, tuple[RowShape, ...]]:
        """What it is tested on: the held-out training rows, or the validation rows."""
        if tuning:
            return self.train[::EVERY], self.train_shapes[::EVERY]
        return self.evaluation, self.evaluation_shapes


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that all router benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="folder with one sub-folder a task")
    parser.add_argument("--cache", type=Path, help="folder that keeps features between runs")
    parser.add_argument("--rows", type=int, default=2000, help="rows a task, each of train and val")
    parser.add_argument("--tasks", nargs="*", help="only these tasks")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--states", type=int, nargs="*", default=DEFAULT_STATES)
    parser.add_argument("--poolings", nargs="*", default=DEFAULT_POOLINGS, choices=POOLINGS)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def real_tasks(
    options: argparse.Namespace,
    states: Sequence[int] | None = None,
    poolings: Sequence[str] | None = None,
) -> list[RealTask]:
    """Features of the tasks, from the cache where they are there; regression is left out.

    States and poolings are the command line's where none are named.
    """
    states, poolings = states or options.states, poolings or options.poolings
    with tempfile.TemporaryDirectory() as scratch:
        cache = options.cache or Path(scratch)
        cache.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in options.data.iterdir() if path.is_dir())
        specs = [task_spec(name) for name in options.tasks or names]
        wanted = [spec for spec in specs if spec.kind != "regression"]
        files = {spec.name: cache / _file_name(spec.name, options) for spec in wanted}
        _extract({name: path for name, path in files.items() if not path.is_file()}, options)
        found = []
        for spec in wanted:
            file = FeatureFile.from_bytes(files[spec.name].read_bytes(), spec.name)
            whole = RealTask(
                spec.name,
                spec.kind,
                file.train,
                file.evaluation,
                file.train_shapes,
                file.evaluation_shapes,
                file.train_tokens,
                file.spans or Spans.none(file.width),
            )
            found.append(blocks(whole, states, poolings))
        return found


def blocks(task: RealTask, states: Sequence[int], poolings: Sequence[str]) -> RealTask:
    """The task with only these states and poolings in its features, in the spec's order."""
    hidden = task.train.shape[1] // (len(STATES) * len(POOLINGS))
    places = [
        STATES.index(state) * len(POOLINGS) + POOLINGS.index(pooling)
        for state in states
        for pooling in poolings
    ]
    columns = torch.cat([torch.arange(place * hidden, (place + 1) * hidden) for place in places])
    return replace(
        task,
        train=task.train[:, columns],
        evaluation=task.evaluation[:, columns],
        spans=replace(task.spans, features=task.spans.features[:, columns]),
    )


def _file_name(name: str, options: argparse.Namespace) -> str:
    return f"{name}-{options.rows}-{options.max_length}-{options.seed}.safetensors"


def _extract(files: dict[str, Path], options: argparse.Namespace) -> None:
    if not files:
        return
    backbone = load_backbone(options.backbone)
    spec = FeatureSpec(backbone.digest, max(STATES), STATES, POOLINGS, options.max_length)

    def no_experts(expert_id: str) -> CollapsedExpert:
        raise AssertionError(f"routing features need no expert, asked for {expert_id}")

    model = RoutedModel(backbone, spec, ExpertPool(no_experts))
    for name, path in files.items():
        data = load_task(
            task_spec(name),
            str(options.data / name),
            limit=options.rows,
            eval_limit=options.rows,
            seed=options.seed,
        )
        parts = [
            trunk_features(
                model,
                encode_rows(rows, backbone.tokenizer, None, (), options.max_length),
            )
            for rows in (data.train, data.validation)
        ]
        shapes = [tuple(row.shape for row in rows) for rows in (data.train, data.validation)]
        encoded = encode_rows(data.train, backbone.tokenizer, None, (), options.max_length)
        kept = list(zip(encoded, shapes[0], strict=True))
        spans = short_spans(
            *(model, kept, parts[0].shape[1], options.seed), lambda rows: unasked(len(rows))
        )
        tokens = torch.tensor([row.length for row in encoded], dtype=torch.int32)
        file = FeatureFile(*parts, *shapes, spec.digest, tokens, spans)
        path.write_bytes(file.to_bytes())
