"""Samples a second for batches that mix experts: bare, one pass, two passes, and PEFT.

Run it with: OMP_NUM_THREADS=2 python examples/benchmarks/mixed_batches.py [--dtype bfloat16]

All four run the same padded batches through the same all-MiniLM-L6-v2. ``bare`` is the backbone
alone. ``one pass`` is expertbank's: route half-way up, adapt above; the router is a real ridge
gate over as many experts and decides every row, the adapters and heads act. ``two passes`` is
the paper's way with the same adapters and router: a bare pass for the feature, then the adapted
one. ``PEFT`` is the same adapters as LoRA pairs in one PEFT model, each row's adapter named by
``adapter_names``, so that it has nothing to decide and no head to apply. Adapters have the default
shape; with ``--pairs`` rows have two texts, and heads read both; with ``--deep N`` so many of the
experts act on all layers, so that a batch with a row of theirs is run again; the paper's way, which
runs nothing a third time, is then left out. What each batch is
answered with is checked to be equal before anything is timed. The four run in turn, round after
round; a figure is the median of its rounds.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from machine import describe
from torch import Tensor

from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert
from expertbank.adapters.targets import find_targets
from expertbank.adapters.tt import TTAdapter, group_targets
from expertbank.backbones.backbone import Backbone, load_backbone
from expertbank.backbones.batches import Batch, collate, plan_batches
from expertbank.backbones.running import call_backbone
from expertbank.config import DEFAULT_BACKBONE
from expertbank.data import encode_rows
from expertbank.models.heads import head_input, head_width
from expertbank.models.routed import RoutedModel
from expertbank.records import EncodedRow, HeadPooling, Row
from expertbank.routing.config import RouterConfig
from expertbank.routing.router import Router
from expertbank.testing.routers import TaskFeatures, fit_router

# Experts mixed, rows a batch.
SETTINGS = ((1, 32), (4, 32), (16, 32), (64, 64), (1, 1))
ALPHA, CLASSES = 4.0, 2
Way = Callable[[Batch], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=6, help="batches in one round")
    parser.add_argument("--words", type=int, default=40, help="most words of a text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", action="store_true", help="rows of two texts, heads of pairs")
    parser.add_argument("--deep", type=int, default=0, help="experts that act on all layers")
    parser.add_argument("--settings", nargs="*", help="experts:rows, such as 16:32")
    options = parser.parse_args()
    settings = [tuple(map(int, s.split(":"))) for s in options.settings or ()] or SETTINGS
    describe(options.seed)
    print(f"{options.dtype}, {options.batches} batches a round, {options.rounds} rounds\n")
    print("| experts | batch | way | samples/s | time, bare = 1 |")
    print("|---|---|---|---|---|")
    backbones = [load_backbone(DEFAULT_BACKBONE, dtype=options.dtype) for _ in range(2)]
    for experts, rows in settings:
        ways, batches = prepare(backbones, experts, rows, options)
        with torch.inference_mode():
            taken = measure(ways, batches, options.rounds)
        samples = rows * len(batches)
        for name, seconds in taken.items():
            ratio = statistics.median(
                one / bare for one, bare in zip(seconds, taken["bare"], strict=True)
            )
            speed = samples / statistics.median(seconds)
            print(f"| {experts} | {rows} | {name} | {speed:,.0f} | {ratio:.3f} |", flush=True)
        print(f"|  |  | {against(taken)} |  |  |", flush=True)


def against(taken: dict[str, list[float]]) -> str:
    """How many times the samples of the others one pass does."""
    found = []
    for name in taken.keys() - {"bare", "one pass"}:
        pairs = zip(taken[name], taken["one pass"], strict=True)
        found.append(f"{statistics.median(a / b for a, b in pairs):.2f} x {name}")
    return f"one pass answers {', '.join(found)}"


def prepare(
    backbones: Sequence[Backbone], count: int, size: int, options: argparse.Namespace
) -> tuple[dict[str, Way], list[Batch]]:
    """The four ways, checked against each other, and the batches."""
    backbone, for_peft = backbones
    spec = backbone.default_feature_spec(max_length=256, dtype=options.dtype)
    names = [f"task{number:02d}@1" for number in range(count)]
    pooling: HeadPooling = "pair" if options.pairs else "mean"
    deep = min(options.deep, count)
    firsts = [0] * deep + [spec.route_layer] * (count - deep)
    experts = {
        name: random_expert(backbone, name, first, pooling)
        for name, first in zip(names, firsts, strict=True)
    }
    model = RoutedModel(backbone, spec, ExpertPool.holding(experts))
    rows = encoded(texts(count, size * options.batches, options), backbone, pairs=options.pairs)
    batches = [
        collate(rows, places, backbone.tokenizer.pad_token_id, backbone.device)
        for places in plan_batches(rows, size)
    ]
    router = fitted(model, names, options)

    def decide(features: Tensor, places: Sequence[int]) -> list[str]:
        choice = router.route(features, ["single"] * len(places))
        return [names[column] for column in choice.index.tolist()]

    def bare(batch: Batch) -> Tensor:
        return call_backbone(backbone, batch)

    def one_pass(batch: Batch) -> Tensor:
        return model(batch, decide).logits

    # The paper's: a whole bare pass, then an adapted one with the experts named.
    def two_passes(batch: Batch) -> Tensor:
        call_backbone(backbone, batch)
        return model(batch, decide).logits

    by_row = [decide(model.trunk_features(batch), batch.rows) for batch in batches]
    chosen = {id(batch): names for batch, names in zip(batches, by_row, strict=True)}
    peft_model = as_peft(for_peft, experts)

    def peft(batch: Batch) -> Tensor:
        own = [name.replace("@", "_") for name in chosen[id(batch)]]
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        output = peft_model(**inputs, token_type_ids=batch.token_type_ids, adapter_names=own)
        states: Tensor = output.last_hidden_state
        return states

    mixed = statistics.mean(len(set(names)) for names in by_row)
    print(
        f"|  |  | {mixed:.1f} experts a batch, {batches[0].input_ids.shape[1]} to "
        f"{batches[-1].input_ids.shape[1]} tokens |  |  |"
    )
    check(model, batches[0], chosen[id(batches[0])], peft)
    ways = {"bare": bare, "one pass": one_pass, "two passes": two_passes, "PEFT": peft}
    if deep:
        del ways["two passes"]
    return ways, batches


def random_expert(
    backbone: Backbone, name: str, first_layer: int, pooling: HeadPooling = "mean"
) -> CollapsedExpert:
    """An expert of the default shape with random cores of a trained one's size."""
    generator = torch.Generator().manual_seed(int(name[4:6]))
    targets = find_targets(backbone.model, backbone.family, first_layer, ("query", "value"))
    adapter = TTAdapter.fresh(group_targets(targets, None), ALPHA, generator)
    with torch.no_grad():
        for core in adapter.parameters():
            core.copy_(torch.randn(core.shape, generator=generator) * 0.2)
        like = next(backbone.model.parameters())
        factors = {path: (a.to(like), b.to(like)) for path, (a, b) in adapter.collapse().items()}
    width = head_width(backbone.hidden_size, pooling)
    weight = torch.randn(CLASSES, width, generator=generator).to(backbone.device)
    bias = torch.zeros(CLASSES, device=backbone.device)
    return CollapsedExpert(name, factors, weight, bias, pooling=pooling)


def texts(tasks: int, count: int, options: argparse.Namespace) -> list[str]:
    """Texts whose first words tell which task they are of."""
    drawn = random.Random(options.seed)
    vocabulary = [
        f"{a}{b}"
        for a in ("river", "law", "film", "cell", "game", "tax", "sky", "team")
        for b in ("", "s", " house", " report", " of money", " in May", " again", " two")
    ]
    return [
        " ".join(
            [vocabulary[(place % tasks) % len(vocabulary)]] * 3
            + drawn.choices(vocabulary, k=drawn.randint(options.words // 4, options.words))
        )
        for place in range(count)
    ]


def encoded(lines: Sequence[str], backbone: Backbone, *, pairs: bool = False) -> list[EncodedRow]:
    """The texts as rows, or each cut in the middle as a row of two."""
    rows = [Row(line) for line in lines]
    if pairs:
        words = [line.split() for line in lines]
        halves = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in words]
        rows = [Row(first, second) for first, second in halves]
    return encode_rows(rows, backbone.tokenizer, None, (), 256)


def fitted(model: RoutedModel, names: Sequence[str], options: argparse.Namespace) -> Router:
    """A ridge gate over all experts, fitted on features of 20 texts a task."""
    tasks = []
    lines = texts(len(names), 20 * len(names), options)
    for place, name in enumerate(names):
        rows = encoded(lines[place :: len(names)], model.backbone)
        found = [model.trunk_features(batch).cpu() for batch in model.batches(rows, 20)]
        features = torch.cat(found)
        shapes = ("single",) * len(features)
        tasks.append(
            TaskFeatures(name, "0" * 64, name[:6], "classification", None, features, shapes)
        )
    return fit_router(tasks, RouterConfig(kind="ridge"), model.spec.digest)


def as_peft(backbone: Backbone, experts: dict[str, CollapsedExpert]):  # type: ignore[no-untyped-def]
    """The same adapters as LoRA pairs of one PEFT model."""
    import copy

    from peft import LoraConfig, get_peft_model

    first, *others = experts
    rank = next(iter(experts[first].factors.values()))[0].shape[1]
    configs = {
        name: LoraConfig(r=rank, lora_alpha=rank, target_modules=list(expert.factors))
        for name, expert in experts.items()
    }
    model = get_peft_model(copy.deepcopy(backbone.model), configs[first], first.replace("@", "_"))
    for name in others:
        model.add_adapter(name.replace("@", "_"), configs[name])
    with torch.no_grad():
        for name, expert in experts.items():
            for path, (a, b) in expert.factors.items():
                layer = model.base_model.model.get_submodule(path)
                key = name.replace("@", "_")
                layer.lora_A[key].weight.data = a.T.contiguous()
                layer.lora_B[key].weight.data = b.T.contiguous()
    return model.eval()


def check(model: RoutedModel, batch: Batch, names: Sequence[str], peft: Way) -> None:
    """PEFT's last states through our heads must be our logits."""
    with torch.no_grad():
        ours = model(batch, lambda features, places: list(names)).logits
        stack = model.stack(names)
        (pooling,) = {expert.pooling for expert in stack.experts}
        pooled = head_input(peft(batch), batch, pooling)
        theirs = stack.logits(pooled, [stack.ids.index(name) for name in names])
    tolerance = 1e-3 if model.spec.dtype == "float32" else 0.3
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def measure(ways: dict[str, Way], batches: Sequence[Batch], rounds: int) -> dict[str, list[float]]:
    """Seconds of every round of every way, the ways in turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            for batch in batches:
                way(batch)
            if turn:  # the first round warms up
                taken[name].append(time.perf_counter() - started)
    return taken


if __name__ == "__main__":
    main()
