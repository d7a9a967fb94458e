"""Non-inferiority of matched pairs: Tango's score test, its interval, and its exact size.

Two routers answer the same ``n`` rows. ``losses`` rows were right before and are wrong now,
``gains`` the other way round; all other rows carry no direction. The change of accuracy is
``δ = (gains − losses) / n``. All functions take whole numbers or arrays of them.

Source of the statistic: T. Tango, "Equivalence test and confidence interval for the difference
in proportions for the paired-sample design", Statistics in Medicine 17 (1998), 891-908.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Counts = npt.ArrayLike

NUISANCE_POINTS = 64
CLOSER = 17
"""How many shares of losing rows the exact size is searched over, and how many about the worst."""
_NEGLIGIBLE = 1e-7
_BISECTIONS = 60


def constrained_loss_rate(gains: Counts, losses: Counts, n: Counts, change: Counts) -> Array:
    """Maximum-likelihood share of losing rows when the true change is ``change``.

    With ``q`` the share of losing and ``q + δ`` that of gaining rows the likelihood is
    ``(q + δ)^gains · q^losses · (1 − 2q − δ)^(n − gains − losses)``; setting its derivative to
    zero gives a quadratic equation, of which the larger root is the admissible one.

    Args:
        gains: rows that became right.
        losses: rows that became wrong.
        n: rows in all.
        change: the supposed true change δ, −1 to 1.

    Returns:
        ``q``, broadcast over the arguments.
    """
    x, y, rows, delta = (np.asarray(value, dtype=float) for value in (gains, losses, n, change))
    b = delta * (2 * rows - x + y) - (x + y)
    c = -y * delta * (1 - delta)
    root = np.sqrt(np.maximum(b * b - 8 * rows * c, 0))
    q = (root - b) / (4 * rows)
    return np.asarray(np.clip(q, np.maximum(-delta, 0), (1 - delta) / 2), dtype=float)


def score(gains: Counts, losses: Counts, n: Counts, change: Counts) -> Array:
    """Tango's score statistic for ``δ = change``: standard normal where that is the truth.

    Positive where the rows did better than ``change``. Zero over zero, which needs a supposed
    change of nothing and no discordant row, is zero.
    """
    x, y, rows, delta = (np.asarray(value, dtype=float) for value in (gains, losses, n, change))
    q = constrained_loss_rate(x, y, rows, delta)
    variance = rows * np.maximum(2 * q + delta - delta * delta, 0)
    over = x - y - rows * delta
    safe = np.where(variance > 0, variance, 1)
    away = np.where(over == 0, 0.0, np.copysign(np.inf, over))
    return np.asarray(np.where(variance > 0, over / np.sqrt(safe), away), dtype=float)


def score_interval(gains: int, losses: int, n: int, level: float = 0.90) -> tuple[float, float]:
    """Score interval of the change: every δ that the two-sided test at ``level`` keeps.

    At the default each end is a one-sided 95% bound.
    """
    critical = NormalDist().inv_cdf(0.5 + level / 2)
    observed = (gains - losses) / n

    def bound(outer: float, sign: int) -> float:
        inner = observed
        for _ in range(_BISECTIONS):
            middle = (inner + outer) / 2
            kept = sign * float(score(gains, losses, n, middle)) <= critical
            inner, outer = (middle, outer) if kept else (inner, middle)
        return inner

    return bound(-1.0, 1), bound(1.0, -1)


def p_noninferior(gains: int, losses: int, n: int, margin: float) -> float:
    """One-sided p-value against a loss of ``margin`` or more, with its error held exactly.

    The score test leans on the normal curve and errs a little too often where few rows are
    discordant: 268 rows without a loss would pass for a margin of 0.01, although a true loss of
    0.01 shows no lost row in 0.99^268 = 6.8% of such samples. So the value returned is the
    larger of the score test's and the exact chance, under the worst share of losing rows, of an
    outcome at least as extreme (the unconditional test that orders outcomes by the score: Hsueh,
    Liu and Chen, Biometrics 57 (2001), 478-483). No loss among n rows then proves a margin from
    ``(1 − margin)^n ≤ 0.05`` on, which is n = 299 for 0.01.
    """
    statistic = float(score(gains, losses, n, -margin))
    if statistic <= 0:
        return max(_upper_tail(statistic), 0.5)
    return max(_upper_tail(statistic), _worst_chance(statistic, n, margin))


def smallest_margin(gains: int, losses: int, n: int, alpha: float = 0.05) -> float:
    """The smallest margin for which ``p_noninferior`` is at most ``alpha``, to 1e-4; at most 1."""
    if gains == losses == 0:
        return margin_without_loss(n, alpha)
    low = max(-score_interval(gains, losses, n, 1 - 2 * alpha)[0], 0.0)
    if p_noninferior(gains, losses, n, max(low, 1e-9)) <= alpha:
        return low
    high = min(low + 1.5 / n, 1.0)
    while high < 1 and p_noninferior(gains, losses, n, high) > alpha:
        low, high = high, min(high + 2.0 / n, 1.0)
    while high - low > 1e-4:
        middle = (low + high) / 2
        if p_noninferior(gains, losses, n, middle) <= alpha:
            high = middle
        else:
            low = middle
    return high


def margin_without_loss(n: int, alpha: float = 0.05) -> float:
    """The smallest margin that ``n`` rows could prove at all, with no discordant row."""
    return float(1 - alpha ** (1 / n))


def _upper_tail(z: float) -> float:
    return NormalDist().cdf(-z)


def _worst_chance(statistic: float, n: int, margin: float) -> float:
    """The largest probability, at a true loss of ``margin``, of a score this high.

    The outcomes form a staircase: for each count of losses the fewest gains that reach the
    score. Its probability is summed for each share of losing rows from ``margin`` (no gain is
    possible) to ``(1 + margin) / 2`` (every row is discordant).
    """
    from scipy.stats import binom

    edge, far = margin, (1 + margin) / 2
    most = int(binom.isf(_NEGLIGIBLE, n, far))
    losses = np.arange(most + 1)
    fewest = _fewest_gains(statistic, losses, n, margin)

    def chance(rate: float) -> float:
        last = int(binom.isf(_NEGLIGIBLE, n, rate))
        y = losses[: last + 1]
        gain = min((rate - margin) / (1 - rate), 1.0)
        reach = binom.sf(fewest[: last + 1] - 1, n - y, gain)
        return float((binom.pmf(y, n, rate) * reach).sum())

    # Denser near both edges, where it turns fastest; then about the worst of these.
    near = np.linspace(0, 1, NUISANCE_POINTS // 2) ** 3 / 2
    rates = edge + (far - edge) * np.concatenate([near, 1 - near[-2::-1]])
    chances = [chance(rate) for rate in rates]
    place = int(np.argmax(chances))
    below, above = rates[max(place - 1, 0)], rates[min(place + 1, len(rates) - 1)]
    around = np.linspace(below, above, CLOSER)
    return min(max(*chances, *map(chance, around)), 1.0)


def _fewest_gains(
    statistic: float, losses: npt.NDArray[np.int64], n: int, margin: float
) -> npt.NDArray[np.int64]:
    """Per count of losses the fewest gains whose score is at least ``statistic``.

    The score grows with the gains, so a bisection finds them; ``n + 1`` where none does.
    """
    low = np.full(len(losses), -1, dtype=np.int64)
    high = n - losses + 1
    reached = statistic - 1e-9 * (1 + abs(statistic))
    while bool((high - low > 1).any()):
        middle = (low + high) // 2
        enough = score(middle, losses, n, -margin) >= reached
        wide = high - low > 1
        high = np.where(wide & enough, middle, high)
        low = np.where(wide & ~enough, middle, low)
    return np.where(high > n - losses, n + 1, high)
