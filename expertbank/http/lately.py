"""How the server did in the last minute: what the page shows as live figures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from expertbank.http.seen import Seen

WINDOW = 60.0
"""Seconds that count as lately."""
MOST = 20_000
"""Requests remembered; of more in a minute, the latest."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of requests that asked for answers, in the last minute.

    Attributes:
        requests: how many ended.
        rows: rows answered.
        refused: requests that ended with 429.
        failed: requests that ended with 500 or more.
        median: seconds that half of the answered ones took at most; ``None`` without one.
        slow: seconds that 99 of a hundred took at most.
    """

    requests: int
    rows: int
    refused: int
    failed: int
    median: float | None
    slow: float | None


class Lately:
    """A sink that remembers the last minute.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int, int, float]] = deque(maxlen=MOST)
        self._lock = Lock()

    def __call__(self, seen: Seen) -> None:
        """Remember a request, if it asked for answers."""
        if seen.rows or seen.reason is not None:
            with self._lock:
                self._seen.append((self._clock(), seen.status, seen.rows, seen.seconds))

    def figures(self) -> Figures:
        """What the last minute was like."""
        since = self._clock() - WINDOW
        with self._lock:
            while self._seen and self._seen[0][0] < since:
                self._seen.popleft()
            found = list(self._seen)
        taken = sorted(seconds for _, status, rows, seconds in found if rows and status < 400)
        return Figures(
            requests=len(found),
            rows=sum(rows for _, _, rows, _ in found),
            refused=sum(status == 429 for _, status, _, _ in found),
            failed=sum(status >= 500 for _, status, _, _ in found),
            median=_at(taken, 0.5),
            slow=_at(taken, 0.99),
        )


def _at(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
