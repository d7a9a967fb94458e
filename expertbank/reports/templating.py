"""Jinja2 templates of this folder: what a page says stands there, what it shows is worked out here.

Every value is escaped in HTML. In Markdown a value goes through the filter ``plain`` or ``code``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from expertbank.reports.escaping import code, plain


def render(name: str, **context: Any) -> str:
    """Fill ``templates/<name>.j2``; a value that is missing is an error."""
    return _environment().get_template(f"{name}.j2").render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("expertbank.reports"),
        autoescape=select_autoescape(
            enabled_extensions=("html.j2",), disabled_extensions=("md.j2",), default=True
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plain": plain, "code": code}
    return environment
