"""How often a report wrongly says ``preserved``: the test against a loss of exactly the margin.

Run it with: python examples/benchmarks/error_rates.py [--reports 100000] [--units 2000]

Draws reports of matched pairs whose true loss equals the margin, for several numbers of rows and
shares of discordant rows, and counts those that would say ``preserved``: by the score test alone
(Tango) and by the test the report uses (Tango with its exact size). At most 5% may. Then the
power: how often a bank that lost nothing is told so. Then the same of rows in clusters, of several
sizes and ways to be lost, and of regression, where rows get no value any more: anyone's, or rather
those whose target is extreme.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from machine import describe
from scipy.stats import bootstrap, norm

from expertbank.evaluation.noninferiority import p_noninferior, score
from expertbank.evaluation.units import Units, correlation_units

MARGIN, ALPHA = 0.01, 0.05
ROWS = (100, 268, 299, 400, 600, 1000, 2000)
DISCORDANCE = (0.01, 0.015, 0.02, 0.05, 0.1, 0.2)
CLUSTERS = (100, 400, 2000)
CORRELATION, TRUTH_ROWS, VALUE_ROWS = 0.9, 4_000_000, (300, 1000, 3000)

Sizes = Callable[[np.random.Generator, int], np.ndarray]
SIZES: dict[str, Sizes] = {
    "8 each": lambda rng, count: np.full(count, 8),
    "1 to 4": lambda rng, count: rng.integers(1, 5, count),
    "lognormal (2.5, 1)": lambda rng, count: np.clip(rng.lognormal(2.5, 1, count), 1, 400).astype(
        int
    ),
    "lognormal (2, 1.2)": lambda rng, count: np.clip(rng.lognormal(2, 1.2, count), 1, 400).astype(
        int
    ),
    "Pareto (1.2) to 200": lambda rng, count: np.clip(1 + rng.pareto(1.2, count), 1, 200).astype(
        int
    ),
}
PATTERNS: dict[str, tuple[float | None, float, int]] = {
    "whole clusters lost": (None, 0.0, 0),
    "lost and gained": (None, 0.01, 0),
    "mostly whole": (0.05, 0.01, 0),
    "rows, correlated": (0.3, 0.04, 0),
    "whole, by size": (None, 0.0, 1),
    "whole, by its square": (None, 0.0, 2),
}
BOOTSTRAPPED = ("8 each", "lognormal (2, 1.2)", "Pareto (1.2) to 200")
LOST_VALUES = {"any": (0.02, 0), "by the square": (0.01, 2), "by the fourth power": (0.004, 4)}


def draw(n: int, discordance: float, loss: float, reports: int, seed: int) -> np.ndarray:
    """``[reports, 2]`` gained and lost rows of reports with this true loss."""
    lost = (discordance + loss) / 2
    rng = np.random.default_rng([seed, n, round(10_000 * discordance), round(10_000 * loss)])
    return rng.multinomial(n, [lost - loss, lost, 1 - discordance], size=reports)[:, :2]


def shares(drawn: np.ndarray, n: int) -> tuple[float, float]:
    """Share of reports that say ``preserved``: by the score test alone, and exactly."""
    outcomes, times = np.unique(drawn, axis=0, return_counts=True)
    z = score(outcomes[:, 0], outcomes[:, 1], n, -MARGIN)
    alone = z >= norm.ppf(1 - ALPHA)
    exact = np.zeros(len(z), dtype=bool)
    # A proof of one outcome is a proof of every outcome with a higher score: find the weakest.
    candidates = [place for place in np.argsort(z) if alone[place]]
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        gains, losses = map(int, outcomes[candidates[middle]])
        if p_noninferior(gains, losses, n, MARGIN) <= ALPHA:
            high = middle
        else:
            low = middle + 1
    exact[candidates[low:]] = True
    return float(times[alone].sum() / times.sum()), float(times[exact].sum() / times.sum())


def clustered(
    draw_sizes: Sizes,
    count: int,
    spread: float | None,
    gained: float,
    power: int,
    rng: np.random.Generator,
) -> Units:
    """A report whose true loss is the margin, said by clusters.

    Args:
        draw_sizes: of a generator and a number of clusters, their sizes.
        count: how many clusters.
        spread: how much their shares of lost rows differ (the first shape of a beta
            distribution); ``None`` where a cluster is lost wholly or not at all.
        gained: share of rows that are gained.
        power: clusters are lost in proportion to this power of their size.
        rng: the source of chance.
    """
    sizes, share = draw_sizes(rng, count), MARGIN + gained
    if spread is None:
        chance, share_of_each = rng.random(count), lost_of(sizes.astype(float), share, power)
        lost = np.where(chance < share_of_each, sizes, 0)
        found = np.where((chance >= share) & (chance < share + gained), sizes, 0)
    else:
        lost = rng.binomial(sizes, rng.beta(spread, spread * (1 - share) / share, count))
        found = rng.binomial(sizes - lost, gained / (1 - share))
    differences = (found - lost).astype(float)
    size = sizes.astype(float)
    return Units(differences, size, size, int(np.count_nonzero(differences)))


def lost_of(sizes: np.ndarray, share: float, power: int) -> np.ndarray:
    """How often each cluster is lost, so that this share of all rows is."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        lost = (sizes * np.minimum(1, middle * sizes**power)).sum() / sizes.sum()
        low, high = (low, middle) if lost > share else (middle, high)
    return np.minimum(1, low * sizes**power)


def bca_says_preserved(units: Units, rng: np.random.Generator) -> bool:
    """What a one-sided 95% BCa bound over clusters says, with the floor of as many equal rows."""
    if (1 - MARGIN) ** len(units.says) > ALPHA:
        return False
    if not units.says.any():
        return True
    found = bootstrap(
        (units.says, units.weights),
        lambda says, sizes, axis: says.sum(axis) / sizes.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=999,
        batch=100,
        confidence_level=0.9,
        random_state=rng,
    )
    return bool(found.confidence_interval.low > -MARGIN)


def valued(
    n: int, share: float, power: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values before, values now and targets of a report of which a share of rows gets no value.

    Args:
        n: how many rows.
        share: of rows that another expert answers.
        power: rows are lost in proportion to this power of how far their target is from the mean.
        rng: the source of chance.
    """
    targets = rng.standard_normal(n)
    before = CORRELATION * targets + (1 - CORRELATION**2) ** 0.5 * rng.standard_normal(n)
    weight = np.abs(targets) ** power / {0: 1.0, 2: 1.0, 4: 3.0}[power]
    return before, np.where(rng.random(n) < share * weight, 0.0, before), targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=int, default=100_000)
    parser.add_argument(
        "--units", type=int, default=2000, help="reports a cell of clusters, values"
    )
    parser.add_argument("--bootstraps", type=int, default=300, help="of those, by a bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    describe(options.seed)
    error = 1.96 * (ALPHA * (1 - ALPHA) / options.reports) ** 0.5
    print(f"true loss {MARGIN} = margin: share of reports that say preserved")
    print(f"({options.reports:,} reports a line, 95% Monte-Carlo error {error:.4f})\n")
    print("| rows | discordant | score test alone | as reported | above 5% |")
    print("|---|---|---|---|---|")
    worst = [0.0, 0.0]
    for n in ROWS:
        for discordance in DISCORDANCE:
            drawn = draw(n, discordance, MARGIN, options.reports, options.seed)
            alone, exact = shares(drawn, n)
            worst = [max(worst[0], alone), max(worst[1], exact)]
            flag = ", ".join(
                name
                for name, value in (("score test alone", alone), ("as reported", exact))
                if value > ALPHA + error
            )
            print(f"| {n:,} | {discordance} | {alone:.4f} | {exact:.4f} | {flag} |", flush=True)
    print(f"\nworst: score test alone {worst[0]:.4f}, as reported {worst[1]:.4f}\n")

    print("no true loss: share of reports that say preserved (power)\n")
    print("| rows | 0.2% discordant | 1% | 2% | 5% |")
    print("|---|---|---|---|---|")
    for n in ROWS:
        power = [
            shares(draw(n, discordance, 0.0, options.reports, options.seed), n)[1]
            for discordance in (0.002, 0.01, 0.02, 0.05)
        ]
        print(f"| {n:,} | " + " | ".join(f"{value:.3f}" for value in power) + " |", flush=True)

    error = 1.96 * (ALPHA * (1 - ALPHA) / options.units) ** 0.5
    print(f"\nclusters, true loss {MARGIN} = margin: share of reports that say preserved")
    print(f"({options.units:,} reports a cell, error {error:.3f})\n")
    print(f"| sizes | clusters | {' | '.join(PATTERNS)} |")
    print("|---" * (len(PATTERNS) + 2) + "|")
    for name, draw_sizes in SIZES.items():
        for count in CLUSTERS:
            cells = []
            for number, pattern in enumerate(PATTERNS.values()):
                rng = np.random.default_rng([options.seed, count, number])
                said = sum(
                    clustered(draw_sizes, count, *pattern, rng).p_at_most(-MARGIN) <= ALPHA
                    for _ in range(options.units)
                )
                cells.append(f"{said / options.units:.3f}")
            print(f"| {name} | {count:,} | {' | '.join(cells)} |", flush=True)

    print(f"\nthe same by a BCa bootstrap over clusters, {options.bootstraps:,} reports a cell\n")
    print(f"| sizes | clusters | {' | '.join(PATTERNS)} |")
    print("|---" * (len(PATTERNS) + 2) + "|")
    for name in BOOTSTRAPPED:
        cells = []
        for number, pattern in enumerate(PATTERNS.values()):
            rng = np.random.default_rng([options.seed, number])
            said = sum(
                bca_says_preserved(clustered(SIZES[name], 400, *pattern, rng), rng)
                for _ in range(options.bootstraps)
            )
            cells.append(f"{said / options.bootstraps:.3f}")
        print(f"| {name} | 400 | {' | '.join(cells)} |", flush=True)

    print(f"\nvalues, correlation {CORRELATION}, true loss = margin; the same number of reports\n")
    print("| rows without a value | share | margin | rows | by the correlation | as reported |")
    print("|---" * 6 + "|")
    for name, (share, power) in LOST_VALUES.items():
        rng = np.random.default_rng([options.seed, power])
        before, now, targets = valued(TRUTH_ROWS, share, power, rng)
        margin = float(np.corrcoef(before, targets)[0, 1] - np.corrcoef(now, targets)[0, 1])
        for n in VALUE_ROWS:
            alone = both = 0
            for _ in range(options.units):
                before, now, targets = valued(n, share, power, rng)
                gone = before != now
                units = correlation_units(before, now, targets) if gone.any() else None
                if units is not None and units.p_at_most(-margin) <= ALPHA:
                    alone += 1
                    both += p_noninferior(0, int(gone.sum()), n, margin) <= ALPHA
            shown = f"{alone / options.units:.3f} | {both / options.units:.3f}"
            print(f"| {name} | {share} | {margin:.4f} | {n:,} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
