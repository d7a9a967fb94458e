"""Ten domains, one expert each, and queries of no domain: are intents right, are others refused?

Run it with: python examples/benchmarks/out_of_scope.py ../shared/intents/clinc150 --home DIR

Each sub-folder of the data holds train and validation rows of a domain (text and intent); beside
them lie `out_of_scope_*.jsonl` with texts of none. Experts are added one at a time, with the
product's defaults but for what the options say; `--home` keeps the bank, so a second run only
measures. Reported: the share of validation rows whose domain, and whose domain *and* intent are
right with the task not told; how well scores tell the test queries of no domain from them (AUROC by
scikit-learn; recall where 5% of validation rows are refused); and what `predict` itself calls
unknown. Other scores stand beside `unknown_score`: what the router alone finds strange, how unsure
the expert is, and the router's confidence. Nothing is chosen here.

Published on this data (Larson et al. 2019, one model trained on all 150 intents at once, threshold
on its score): BERT in-scope 96.2 and recall 52.3, an MLP on sentence embeddings 93.4 and 49.1.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from machine import describe
from sklearn.metrics import roc_auc_score

from expertbank import Bank, TrainConfig, task_spec
from expertbank.data import read_rows

ALARMS = 0.05


def grown(options: argparse.Namespace) -> Bank:
    """The bank with an expert for every domain, and a router."""
    bank = Bank.open(options.home)
    bank.init(max_length=options.max_length)
    domains = sorted(path.name for path in options.data.iterdir() if path.is_dir())
    config = TrainConfig(epochs=options.epochs, seed=options.seed)
    for domain in domains:
        if domain not in {expert.task for expert in bank.experts()}:
            begun = time.monotonic()
            added = bank.add(domain, data=options.data / domain, train=config)
            print(f"{domain}: intents told the domain {added.metrics['accuracy']:.3f}, "
                  f"{time.monotonic() - begun:.0f} s", flush=True)  # fmt: skip
    result = bank.retrain_router()
    cost = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in result.cost.items())
    print(f"router: {result.metrics['accuracy']:.3f} of validation rows reach their domain; {cost}")
    return bank


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    describe(options.seed)
    with grown(options) as bank:
        known, domains, truth = [], [], []
        for expert in bank.experts():
            rows = read_rows(
                task_spec(expert.task), str(options.data / expert.task / "validation.parquet")
            )
            known += [row.text for row in rows]
            domains += [expert.task] * len(rows)
            truth += [row.label for row in rows]
        lines = (options.data / "out_of_scope_test.jsonl").read_text(encoding="utf-8").splitlines()
        strange = [json.loads(line)["text"] for line in lines]
        predictor = bank.predictor()
        inside, outside = list(predictor.predict(known)), list(predictor.predict(strange))
        both = [list(predictor.predict(texts, second_opinion=True)) for texts in (known, strange)]
        alone = {
            name: [one.strangeness for one in _choices(predictor, texts)]
            for name, texts in (("inside", known), ("outside", strange))
        }
    print(f"\n{len(known):,} queries in scope, task not told:\n")
    print("| | domain right | intent right | asked twice |\n|---|---|---|---|")
    for name, answers in (("`predict`", inside), ("`--second-opinion`", both[0])):
        reached = [one.task == domain for one, domain in zip(answers, domains, strict=True)]
        right = [
            at_home and one.label == label
            for at_home, one, label in zip(reached, answers, truth, strict=True)
        ]
        twice = np.mean([one.second != "" for one in answers])
        print(f"| {name} | {np.mean(reached):.3f} | {np.mean(right):.3f} | {twice:.3f} |")
    print(f"\n| score | AUROC | recall of {len(strange):,} at {ALARMS:.0%} false alarms |")
    print("|---|---|---|")
    scores = {
        "`unknown_score`": ([a.unknown_score for a in inside], [a.unknown_score for a in outside]),
        "with `--second-opinion`": tuple([a.unknown_score for a in own] for own in both),
        "the router's part of it": (alone["inside"], alone["outside"]),
        "the expert's largest probability": (
            [-max(a.scores.values()) for a in inside],
            [-max(a.scores.values()) for a in outside],
        ),
        "the router's confidence": (
            [-a.confidence for a in inside],
            [-a.confidence for a in outside],
        ),
    }
    for name, (low, high) in scores.items():
        auroc = roc_auc_score([0] * len(low) + [1] * len(high), [*low, *high])
        recall = np.mean(np.array(high) > np.quantile(low, 1 - ALARMS))
        print(f"| {name} | {auroc:.3f} | {recall:.3f} |")
    alarms = np.mean([answer.unknown for answer in inside])
    caught = np.mean([answer.unknown for answer in outside])
    print(f"\n`predict` calls unknown: {alarms:.3f} of those in scope, {caught:.3f} of the others")


def _choices(predictor, texts):
    """What was chosen before an expert answered."""
    from expertbank.data import as_rows
    from expertbank.models.routed import RoutedModel
    from expertbank.workflows.answering.choosing import choose
    from expertbank.workflows.measure import trunk_features

    assert isinstance(predictor.model, RoutedModel)
    asked = predictor.questions(list(as_rows(texts)), predictor.decision())
    features = trunk_features(predictor.model, [one.encoded for one in asked])
    return choose([one.decision for one in asked], features.half(), [o.row.shape for o in asked])


if __name__ == "__main__":
    main()
