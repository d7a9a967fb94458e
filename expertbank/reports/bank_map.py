"""A map of the bank: tasks as clouds in the two directions that tell them apart best.

What the drawing shows stands beside it as numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import atan2, degrees, hypot, sqrt
from typing import Any

from expertbank.reports import notebook
from expertbank.wording import listing

WIDTH, HEIGHT, EDGE = 860, 520, 30
REACH = sqrt(5.991)
"""Deviations within which 95 in 100 rows of a normal cloud lie, in two directions."""
ALONE = (
    ".bank-map text { font: 13px sans-serif; text-anchor: middle; fill: #1c2126; } "
    ".bank-map .cloud { fill: #1f5f8b; fill-opacity: .12; stroke: #1f5f8b; stroke-width: 1.5; } "
    ".bank-map .row { fill: #1f5f8b; } "
    ".bank-map .unknown { fill: none; stroke: #b3261e; stroke-width: 2; }"
)
"""How the drawing looks where no page has a style for it."""
LINE = 15
"""Height of a name."""
HEADINGS = ("task", "across", "up", "spread across", "spread up", "nearest task", "deviations away")


@dataclass(frozen=True, slots=True)
class Cloud:
    """One task's rows, seen in the map's plane, in deviations of the covariance all tasks share.

    Attributes:
        task: its name.
        across: of the mean.
        up: of the mean.
        spread: variance across, covariance, variance up.
        nearest: the task whose mean is nearest, in all directions.
        distance: to it, in deviations.
    """

    task: str
    across: float
    up: float
    spread: tuple[float, float, float]
    nearest: str
    distance: float

    @property
    def row(self) -> tuple[str, ...]:
        """The values under ``HEADINGS``."""
        deviations = (sqrt(max(self.spread[0], 0)), sqrt(max(self.spread[2], 0)))
        numbers = (self.across, self.up, *deviations)
        return (self.task, *(f"{n:.1f}" for n in numbers), self.nearest, f"{self.distance:.1f}")


@dataclass(frozen=True, slots=True)
class Spot:
    """One row, seen in the map's plane, in deviations.

    Attributes:
        across: where it lies.
        up: where it lies.
        task: the one that it is sent to.
        unknown: whether it belongs to none of the tasks.
    """

    across: float
    up: float
    task: str
    unknown: bool


@dataclass(frozen=True, slots=True)
class BankMap:
    """The tasks of a router, each as a cloud, and rows that were asked for among them.

    Attributes:
        router: its version.
        told: share of the variance between tasks that the plane's two directions hold.
        clouds: one a task, by name.
        spots: one a row, in the order given.
    """

    router: int
    told: float
    clouds: tuple[Cloud, ...]
    spots: tuple[Spot, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON form."""
        return {
            "router": self.router,
            "told": self.told,
            "clouds": [
                {
                    "task": one.task,
                    "place": [one.across, one.up],
                    "spread": list(one.spread),
                    "nearest": one.nearest,
                    "distance": one.distance,
                }
                for one in self.clouds
            ],
            "rows": [
                {"place": [one.across, one.up], "task": one.task, "unknown": one.unknown}
                for one in self.spots
            ],
        }

    @property
    def caption(self) -> str:
        """What the drawing shows, in words."""
        return (
            "Each ring holds about 95 in 100 of a task's training rows, if they were normal, in "
            "the two directions that tell tasks apart best; they hold "
            f"{self.told:.0%} of the variance between tasks. Tasks whose rings overlap here "
            "may lie apart in other directions."
        )

    @property
    def closest(self) -> str:
        """Which tasks lie closest, for whoever does not see the drawing."""
        pairs = {
            tuple(sorted((one.task, one.nearest))): one.distance
            for one in sorted(self.clouds, key=lambda one: one.distance)
        }
        told = [f"{' to '.join(pair)} ({pairs[pair]:.1f} deviations)" for pair in pairs]
        return f"Closest in all directions: {listing(told[:3])}."

    @property
    def placed(self) -> str:
        """Where the rows lie, in words; nothing without rows."""
        if not self.spots:
            return ""
        unknown = [one for one in self.spots if one.unknown]
        outside = [sum(map(self._outside, rows)) for rows in (self.spots, unknown)]
        return (
            f"Of {len(self.spots):,} rows {len(unknown):,} are unknown (crosses; the others are "
            f"dots). {outside[0]:,} lie outside every ring, {outside[1]:,} of them unknown; "
            "a row inside one may be unknown by other directions."
        )

    def _outside(self, spot: Spot) -> bool:
        return not any(
            _deviations(spot.across - one.across, spot.up - one.up, one.spread) <= REACH
            for one in self.clouds
        )

    @property
    def svg(self) -> str:
        """The drawing as a file of its own, which needs no page's style."""
        return (
            drawn(self)
            .replace("<title", f"<style>{ALONE}</style><title", 1)
            .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        )

    def _repr_html_(self) -> str:
        rows = [one.row for one in self.clouds]
        told = [("rows", self.placed)] if self.spots else []
        return notebook.table(f"Map of router@{self.router}", HEADINGS, rows, told) + self.svg


def drawn(bank_map: BankMap) -> str:
    """The map as inline SVG."""
    place, scale = _fitted(bank_map)
    parts, taken = [], list[tuple[float, float, float]]()
    for cloud in bank_map.clouds:
        x, y = place(cloud.across, cloud.up)
        wide, high, turn = _ring(cloud.spread)
        shape = (
            f'<ellipse class="cloud" rx="{wide * scale:.1f}" ry="{high * scale:.1f}" '
            f'transform="translate({x:.1f} {y:.1f}) rotate({-turn:.1f})"/>'
        )
        below = _free(x, y, len(cloud.task) * 7.5, taken)
        name = f'<text class="middle" x="{x:.1f}" y="{below + 4:.1f}">{escape(cloud.task)}</text>'
        parts.append(f"<g>{shape}{name}</g>")
    parts += (_mark(*place(spot.across, spot.up), unknown=spot.unknown) for spot in bank_map.spots)
    told = " ".join(filter(None, (bank_map.closest, bank_map.placed)))
    return (
        f'<svg class="bank-map" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-labelledby="map-title map-told">'
        f'<title id="map-title">Map of {len(bank_map.clouds)} tasks</title>'
        f'<desc id="map-told">{escape(told)}</desc>{"".join(parts)}</svg>'
    )


def _mark(x: float, y: float, *, unknown: bool) -> str:
    """A cross for an unknown row, a dot for another."""
    if unknown:
        return f'<path class="unknown" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'
    return f'<circle class="row" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'


def _deviations(across: float, up: float, spread: tuple[float, float, float]) -> float:
    """Mahalanobis distance from the middle of a cloud with this spread."""
    xx, xy, yy = spread
    area = max(xx * yy - xy * xy, 1e-12)
    squared = (yy * across * across - 2 * xy * across * up + xx * up * up) / area
    return sqrt(max(squared, 0))


def _ring(spread: tuple[float, float, float]) -> tuple[float, float, float]:
    """Half axes of the 95% ring, and how far the first is turned, in degrees."""
    across, both, up = spread
    middle, apart = (across + up) / 2, hypot((across - up) / 2, both)
    wide, high = (REACH * sqrt(max(value, 0)) for value in (middle + apart, middle - apart))
    return wide, high, degrees(atan2(2 * both, across - up)) / 2


class _Place:
    """From the plane to the drawing, one scale for both directions."""

    def __init__(self, left: float, top: float, scale: float) -> None:
        self._left, self._top, self._scale = left, top, scale

    def __call__(self, across: float, up: float) -> tuple[float, float]:
        return self._left + across * self._scale, self._top - up * self._scale


def _fitted(bank_map: BankMap) -> tuple[_Place, float]:
    """What puts every ring and row into the drawing, and its scale."""
    reach = [
        (one.across, one.up, *(REACH * sqrt(max(s, 0)) for s in (one.spread[0], one.spread[2])))
        for one in bank_map.clouds
    ] + [(one.across, one.up, 0.0, 0.0) for one in bank_map.spots]
    low_x, high_x = min(x - w for x, _, w, _ in reach), max(x + w for x, _, w, _ in reach)
    low_y, high_y = min(y - h for _, y, _, h in reach), max(y + h for _, y, _, h in reach)
    scale = min(
        (WIDTH - 2 * EDGE) / max(high_x - low_x, 1e-9),
        (HEIGHT - 2 * EDGE) / max(high_y - low_y, 1e-9),
    )
    left = WIDTH / 2 - (low_x + high_x) / 2 * scale
    top = HEIGHT / 2 + (low_y + high_y) / 2 * scale
    return _Place(left, top, scale), scale


def _free(x: float, y: float, width: float, taken: list[tuple[float, float, float]]) -> float:
    """The nearest height at or below ``y`` at which a name covers no other."""
    while any(abs(y - v) < LINE and abs(x - u) < (width + w) / 2 for u, v, w in taken):
        y += LINE
    taken.append((x, y, width))
    return y
