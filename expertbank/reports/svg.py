"""Two figures as inline SVG: quality before and after, and the change with its interval.

Both repeat figures of the table beside them, so whoever cannot see them misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import ceil, floor, log10

from expertbank.reports.figures import share, signed
from expertbank.reports.findings import TaskReport

WIDTH, LEFT, RIGHT, ROW, TOP = 860, 190, 100, 28, 34
_LONGEST = 24


def before_and_after(tasks: Sequence[TaskReport]) -> str:
    """Routed quality then (ring) and now (disc), one line a task, on a scale from 0 to 1."""
    place = _scale(0.0, 1.0)
    parts = [_axis([0.0, 0.25, 0.5, 0.75, 1.0], place, len(tasks), lambda v: f"{v:g}")]
    for row, task in enumerate(tasks):
        y = _middle(row)
        inside = [_name(task.task, y)]
        then, now = task.routed_before, task.routed
        if then is not None and now is not None:
            inside.append(_line("link", place(then), y, place(now), y))
        if then is not None:
            inside.append(f'<circle class="then" cx="{place(then):.1f}" cy="{y}" r="5.5"/>')
        if now is not None:
            inside.append(f'<circle class="now" cx="{place(now):.1f}" cy="{y}" r="4.5"/>')
        inside.append(_value(f"{share(then)} → {share(now)}", y))
        parts.append(_group(task, inside))
    return _svg(
        "before-title",
        "Routed quality before and after, by task",
        len(tasks),
        parts,
    )


def change_with_interval(tasks: Sequence[TaskReport], margin: float) -> str:
    """Change of quality with its 90% interval, one line a task, and the margin as a dashed line."""
    shown = [task for task in tasks if task.change and task.change.change is not None]
    reach = max([1.5 * margin] + [abs(bound) for task in shown for bound in _bounds(task)])
    ticks = _ticks(reach)
    place = _scale(-ticks[-1], ticks[-1])
    parts = [_axis(ticks, place, len(shown), lambda v: signed(v) if v else "0")]
    bottom = TOP + ROW * len(shown)
    parts.append(_line("zero", place(0), TOP - 6, place(0), bottom))
    parts.append(_line("margin", place(-margin), TOP - 6, place(-margin), bottom))
    for row, task in enumerate(shown):
        y = _middle(row)
        low, change, high = _bounds(task)
        parts.append(
            _group(
                task,
                [
                    _name(task.task, y),
                    _line("bar", place(low), y, place(high), y),
                    f'<circle class="now" cx="{place(change):.1f}" cy="{y}" r="5"/>',
                    _value(signed(change), y),
                ],
            )
        )
    return _svg(
        "change-title", "Change of routed quality with its interval, by task", len(shown), parts
    )


def _bounds(task: TaskReport) -> tuple[float, float, float]:
    assert task.change is not None
    change = task.change.change or 0.0
    low, high = task.change.interval or (change, change)
    return low, change, high


def _scale(low: float, high: float) -> Callable[[float], float]:
    span = WIDTH - LEFT - RIGHT - 20

    def place(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * span

    return place


def _ticks(reach: float) -> list[float]:
    """Round values, even about zero, the outermost at least ``reach``."""
    unit = 10.0 ** floor(log10(reach))
    step = next(unit * part for part in (0.5, 1.0, 2.0, 5.0) if reach / (unit * part) <= 3)
    count = ceil(reach / step - 1e-9)
    return [round(step * number, 10) for number in range(-count, count + 1)]


def _axis(
    ticks: Sequence[float],
    place: Callable[[float], float],
    rows: int,
    label: Callable[[float], str],
) -> str:
    bottom = TOP + ROW * rows
    return "".join(
        _line("grid", place(tick), TOP - 6, place(tick), bottom)
        + f'<text class="soft middle" x="{place(tick):.1f}" y="{TOP - 14}">{label(tick)}</text>'
        for tick in ticks
    )


def _middle(row: int) -> int:
    return TOP + ROW * row + ROW // 2


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}"/>'


def _name(name: str, y: int) -> str:
    short = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    return f'<text class="end" x="{LEFT - 16}" y="{y + 4}">{escape(short)}</text>'


def _value(text: str, y: int) -> str:
    return f'<text class="soft end" x="{WIDTH - 4}" y="{y + 4}">{escape(text)}</text>'


def _group(task: TaskReport, parts: Sequence[str]) -> str:
    return f'<g class="{task.verdict_routed or "none"}">{"".join(parts)}</g>'


def _svg(name: str, title: str, rows: int, parts: Sequence[str]) -> str:
    height = TOP + ROW * rows + 8
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}">'
        f'<title id="{name}">{escape(title)}</title>{"".join(parts)}</svg>'
    )
