"""How often a report wrongly says ``preserved``: the test against a loss of exactly the margin.

Run it with: python examples/benchmarks/error_rates.py [--reports 100000] [--bootstraps 400]

Draws reports of matched pairs whose true loss equals the margin, for several numbers of rows and
shares of discordant rows, and counts those that would say ``preserved``: by the score test alone
(Tango), by the test the report uses (Tango with its exact size), and, on fewer draws because each
takes a bootstrap, by the BCa lower bound. At most 5% may. Then the power: how often a bank that
lost nothing is told so.
"""

from __future__ import annotations

import argparse

import numpy as np
from machine import describe
from scipy.stats import bootstrap, norm

from expertbank.evaluation.noninferiority import p_noninferior, score

MARGIN, ALPHA = 0.01, 0.05
ROWS = (100, 268, 299, 400, 600, 1000, 2000)
DISCORDANCE = (0.01, 0.015, 0.02, 0.05, 0.1, 0.2)
BOOTSTRAP_SETTINGS = ((299, 0.01), (400, 0.015), (600, 0.02), (1000, 0.02), (2000, 0.05))


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


def bca(drawn: np.ndarray, n: int, seed: int) -> float:
    """Share of reports whose one-sided 95% BCa lower bound is above minus the margin.

    Without a discordant row the bootstrap has nothing to draw from, and says ``preserved``.
    """
    said = 0
    for number, (gains, losses) in enumerate(drawn):
        rows = np.repeat([1.0, -1.0, 0.0], [gains, losses, n - gains - losses])
        if gains == losses == 0:
            said += 1
            continue
        found = bootstrap(
            (rows,),
            np.mean,
            vectorized=True,
            n_resamples=1999,
            batch=100,
            confidence_level=0.9,
            random_state=np.random.default_rng([seed, number]),
        )
        said += bool(found.confidence_interval.low > -MARGIN)
    return said / len(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=int, default=100_000)
    parser.add_argument("--bootstraps", type=int, default=400)
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

    error = 1.96 * (ALPHA * (1 - ALPHA) / options.bootstraps) ** 0.5
    print(f"\nBCa bootstrap on {options.bootstraps:,} of the same reports (error {error:.3f})\n")
    print("| rows | discordant | BCa | as reported |")
    print("|---|---|---|---|")
    for n, discordance in BOOTSTRAP_SETTINGS:
        drawn = draw(n, discordance, MARGIN, options.bootstraps, options.seed)
        print(
            f"| {n:,} | {discordance} | {bca(drawn, n, options.seed):.3f} "
            f"| {shares(drawn, n)[1]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
