"""Which states of a decoder route best: the second table of ``decoder.py``.

Every task's rows are pooled in three ways at some states of the bare model; of each choice the
default gate is fitted on four fifths of the training rows. `held-out` is the other fifth, on which
a choice may be made; validation rows are only reported. Rows go to any task, whatever their shape:
masks are left out, so that it is the states that are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from routing_features import RealTask

from expertbank import task_spec
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert
from expertbank.backbones.backbone import Backbone
from expertbank.config import FeatureSpec
from expertbank.data import encode_rows, load_task
from expertbank.models.routed import RoutedModel
from expertbank.routing.config import RouterConfig
from expertbank.routing.feature_file import FeatureFile, Spans
from expertbank.testing.routers import fit_router
from expertbank.workflows.measure import trunk_features

POOLINGS = ("mean", "first", "last")


def routing(options: argparse.Namespace, bone: Backbone, cache: Path) -> None:
    """Print the table of states and poolings; features are kept in the folder ``cache``."""
    default = bone.default_feature_spec(max_length=options.max_length)
    choices: list[tuple[tuple[int, ...], tuple[str, ...]]] = []
    states = default.states
    if not options.default_states:
        states = states_of(len(bone.layers), default.states)
        choices = [((s,), p) for s in states for p in (("mean",), ("first",), ("last",))]
        choices += [((s,), ("mean", "last")) for s in states]
    choices.append((default.states, default.poolings))
    tasks = pooled(options, bone, states, cache)
    counts = ", ".join(f"{one.name} {len(one.train):,}/{len(one.evaluation):,}" for one in tasks)
    print(f"\n{len(tasks)} tasks, rows of training/validation: {counts}")
    print("\n| states | poolings | held-out | validation |")
    print("|---|---|---|---|")
    width = bone.hidden_size
    for chosen, poolings in choices:
        places = [
            states.index(state) * len(POOLINGS) + POOLINGS.index(pooling)
            for state in chosen
            for pooling in poolings
        ]
        columns = torch.cat([torch.arange(one * width, (one + 1) * width) for one in places])
        held, reported = _accuracies(tasks, columns, options.seeds[0])
        mark = " (default)" if (chosen, poolings) == (default.states, default.poolings) else ""
        print(
            f"| {', '.join(map(str, chosen))}{mark} | {', '.join(poolings)} "
            f"| {held:.4f} | {reported:.4f} |",
            flush=True,
        )


def states_of(depth: int, default: Sequence[int]) -> tuple[int, ...]:
    """Inputs of some layers from the lowest to the highest, and the product's default ones."""
    spread = {round(depth * share) for share in (0, 1 / 15, 1 / 6, 1 / 3, 1 / 2, 2 / 3)}
    return tuple(sorted({*spread, *default, depth - 1}))


def pooled(
    options: argparse.Namespace, bone: Backbone, states: Sequence[int], cache: Path
) -> list[RealTask]:
    """Features of every task, made once."""
    spec = FeatureSpec(bone.digest, max(states), tuple(states), POOLINGS, options.max_length)

    def no_experts(expert_id: str) -> CollapsedExpert:
        raise AssertionError(f"routing features need no expert, asked for {expert_id}")

    model = RoutedModel(bone, spec, ExpertPool(no_experts))
    sizes = options.route_rows, options.route_eval
    found = []
    for name in options.tasks:
        place = cache / f"{name}-{sizes[0]}-{sizes[1]}-{options.seeds[0]}-{spec.digest[:12]}.safe"
        if not place.is_file():
            data = load_task(
                task_spec(name),
                str(options.data / name),
                limit=sizes[0],
                eval_limit=sizes[1],
                seed=options.seeds[0],
            )
            parts, shapes = [], []
            for rows in (data.train, data.validation):
                encoded = encode_rows(rows, bone.tokenizer, None, (), options.max_length)
                parts.append(trunk_features(model, encoded))
                shapes.append(tuple(row.shape for row in rows))
            place.write_bytes(FeatureFile(*parts, *shapes, spec.digest).to_bytes())
            print(f"{name}: features of {sum(map(len, parts)):,} rows", flush=True)
        file = FeatureFile.from_bytes(place.read_bytes(), name)
        # One shape for all: a mask would hide what the states can tell apart.
        single = tuple(file.train_shapes[:1]) * len(file.train)
        other = tuple(file.train_shapes[:1]) * len(file.evaluation)
        spans = Spans.none(file.width)
        found.append(
            RealTask(
                name,
                task_spec(name).kind,
                *(file.train, file.evaluation, single, other),
                torch.zeros(len(file.train), dtype=torch.int32),
                spans,
            )
        )
    return found


def _accuracies(tasks: Sequence[RealTask], columns: torch.Tensor, seed: int) -> tuple[float, float]:
    """Means over tasks of the share of rows sent to their own one: held-out, and validation."""
    cut = [
        replace(
            task,
            train=task.train[:, columns],
            evaluation=task.evaluation[:, columns],
            spans=Spans.none(len(columns)),
        )
        for task in tasks
    ]
    fitted = [replace(task.fitted_on(tuning=True), kind="classification") for task in cut]
    router = fit_router(fitted, RouterConfig.of_text("lda", seed=seed), "0" * 64)
    shares: list[list[float]] = [[], []]
    for task in cut:
        for place, tuning in enumerate((True, False)):
            index = router.route(*task.tested_on(tuning=tuning)).index
            shares[place].append(float((index == router.column_of(task.name)).double().mean()))
    return tuple(sum(one) / len(one) for one in shares)  # type: ignore[return-value]
