"""What comes next: are the groups that `unknowns` finds the tasks that the bank lacks?

Run it with: python examples/benchmarks/next_expert.py ../shared/intents/clinc150 [--splits 3]

The data is a folder with one sub-folder a domain, each with the texts and intents of its train and
validation rows. For each split a bank learns some of the domains. The stream is the validation rows
of the domains that were left out, mixed with as many of the known ones as `--mixed` says. Of the
rows called unknown the groups are compared with the domains and intents that they are from:
adjusted mutual information (scikit-learn; 0 is chance, 1 the same groups) and purity, the share of
grouped rows that are of their group's most frequent domain or intent. Known rows that were called
unknown take part, each as of its own domain and intent.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import describe
from sklearn.metrics import adjusted_mutual_info_score

from expertbank import Bank, TrainConfig, task_spec
from expertbank.data import read_rows
from expertbank.workflows.answering.unknown_groups import Unknowns

ALL = 1_000_000
"""More groups than there are."""
SHOWN = 10
"""Groups that are printed."""


@dataclass(frozen=True)
class Source:
    """Where a row of the stream is from."""

    domain: str
    intent: str
    known: bool


def stream(
    data: Path, domains: Sequence[str], known: set[str], mixed: int, seed: int
) -> dict[str, Source]:
    """Texts of the stream, in random order, and where each is from."""
    found: list[tuple[str, Source]] = []
    for domain in domains:
        rows = read_rows(task_spec(domain), str(data / domain / "validation.parquet"))
        if domain in known:
            rows = random.Random(f"{seed} {domain}").sample(list(rows), min(mixed, len(rows)))
        found += [
            (row.text, Source(domain, f"{domain}/{row.label}", domain in known)) for row in rows
        ]
    random.Random(seed).shuffle(found)
    return dict(found)


def purity(groups: Sequence[int], truth: Sequence[str]) -> float:
    """Share of rows that are of their group's most frequent source."""
    members: dict[int, Counter[str]] = {}
    for group, source in zip(groups, truth, strict=True):
        members.setdefault(group, Counter())[source] += 1
    return sum(max(found.values()) for found in members.values()) / max(1, len(groups))


def split(options: argparse.Namespace, number: int, domains: Sequence[str]) -> list[float]:
    """One bank, one stream; prints its groups and gives the figures."""
    order = random.Random(f"{options.seed} {number}").sample(list(domains), len(domains))
    known, left_out = order[: options.known], order[options.known :]
    sources = stream(options.data, domains, set(known), options.mixed, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        train = TrainConfig(
            epochs=options.epochs, limit=options.rows, eval_limit=options.rows, seed=options.seed
        )
        with Bank.open(Path(folder) / "bank", backbone=options.backbone) as bank:
            for domain in known:
                bank.add(domain, data=options.data / domain, train=train)
            bank.retrain_router()
            bank.predict("the backbone is loaded")
            started = time.perf_counter()
            out = Path(folder) / "groups.jsonl"
            found = bank.unknowns(list(sources), groups=ALL, out=out)
            seconds = time.perf_counter() - started
        text = out.read_text(encoding="utf-8") if found.groups else ""
    lines = [json.loads(line) for line in text.splitlines()]
    grouped = [(line["group"], sources[line["text"]]) for line in lines]
    print(f"split {number}: left out {', '.join(sorted(left_out))}")
    show(found, grouped)
    return figures(found, grouped, sources, seconds)


def show(found: Unknowns, grouped: Sequence[tuple[int, Source]]) -> None:
    """Print the largest groups, and what they are in truth."""
    print("| group | rows | nearest task | most frequent intent | of it | of its domain |")
    print("|---|---|---|---|---|---|")
    for group in found.groups[:SHOWN]:
        members = [source for number, source in grouped if number == group.number]
        intent, count = Counter(source.intent for source in members).most_common(1)[0]
        domain, of_domain = Counter(source.domain for source in members).most_common(1)[0]
        nearest = group.nearest[0]
        print(
            f"| {group.number} | {group.rows} | {nearest.task} {nearest.share:.2f} | {intent} "
            f"| {count / len(members):.2f} | {domain} {of_domain / len(members):.2f} |"
        )
    print()


def figures(
    found: Unknowns,
    grouped: Sequence[tuple[int, Source]],
    sources: dict[str, Source],
    seconds: float,
) -> list[float]:
    """The figures of one split, in the order of ``NAMES``."""
    strange = sum(not source.known for source in sources.values())
    in_groups = sum(not source.known for _, source in grouped)
    numbers = [number for number, _ in grouped]
    intents = [source.intent for _, source in grouped]
    domains = [source.domain for _, source in grouped]
    return [
        len(sources),
        found.unknown,
        in_groups / strange,
        (len(grouped) - in_groups) / max(1, len(grouped)),
        found.groups_found,
        found.alone / max(1, found.unknown),
        adjusted_mutual_info_score(intents, numbers),
        purity(numbers, intents),
        adjusted_mutual_info_score(domains, numbers),
        purity(numbers, domains),
        seconds,
    ]


NAMES = (
    "rows of the stream",
    "called unknown",
    "left-out rows that are in a group",
    "known rows among those in groups",
    "groups",
    "unknown rows that are alone",
    "adjusted mutual information with intents",
    "purity by intent",
    "adjusted mutual information with domains",
    "purity by domain",
    "seconds",
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with one sub-folder a domain")
    parser.add_argument("--known", type=int, default=7, help="domains that the bank learns")
    parser.add_argument("--rows", type=int, default=300, help="training rows of each")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--mixed", type=int, default=150, help="known rows a domain in the stream")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--backbone", default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not options.data.is_dir():
        print(f"skipped: there is no data in {options.data}")
        return
    describe(options.seed)
    domains = sorted(path.name for path in options.data.iterdir() if path.is_dir())
    found = [split(options, number, domains) for number in range(options.splits)]
    print(
        f"| {options.known} domains known | {' | '.join(map(str, range(options.splits)))} | mean |"
    )
    print("|---|" + "---|" * (options.splits + 1))
    for name, values in zip(NAMES, zip(*found, strict=True), strict=True):
        cells = [f"{value:.3f}" if isinstance(value, float) else str(value) for value in values]
        print(f"| {name} | {' | '.join(cells)} | {sum(values) / len(values):.3f} |")


if __name__ == "__main__":
    main()
