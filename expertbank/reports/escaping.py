"""Text from data inside Markdown: the one place that makes it mean itself.

Names of labels, files and models are anybody's. HTML is escaped by its templates; Markdown, whose
readers differ in what they take for markup, is escaped here, in cells of tables as elsewhere.
"""

from __future__ import annotations

import re

from expertbank.texts import printable

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&@$=-]|:(?=/)|(?<=\bwww)\.)", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d+)([.)])")


def plain(text: object) -> str:
    """Text that Markdown and HTML show as it is, in one line; what does not show is spelled out."""
    line = printable(" ".join(str(text).split()))
    return _NUMBERED.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", line))


def code(text: object) -> str:
    """Text as code within a paragraph: between more backticks than it has in a row."""
    line = printable(" ".join(str(text).split()))
    fence = "`" * (1 + max(map(len, re.findall(r"`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def row(*cells: str) -> str:
    """A line of a table, of cells that are Markdown already."""
    return f"| {' | '.join(cells)} |"
