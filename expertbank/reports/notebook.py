"""What notebooks show of a result: a table of its own, or the whole page in a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

MANY = 200
"""Rows that are shown at most; how many there are besides is said."""


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    facts: Iterable[tuple[str, object]] = (),
) -> str:
    """Facts, and rows under headings; every value is text.

    Args:
        title: what it is.
        columns: headings; none for facts alone.
        rows: a value for each heading.
        facts: names and values that stand above.
    """
    from expertbank.reports.templating import render  # Jinja2, which most commands do without

    return render(
        "notebook.html",
        title=title,
        columns=columns,
        rows=rows[:MANY],
        more=max(len(rows) - MANY, 0),
        facts=tuple(facts),
    )


def framed(title: str, page: str) -> str:
    """A page as it is, with its own style, which stays inside: no scripts, nothing loaded."""
    return (
        f'<iframe title="{escape(title)}" sandbox srcdoc="{escape(page)}" '
        'style="width: 100%; height: 40rem; border: 1px solid #8886;"></iframe>'
    )
