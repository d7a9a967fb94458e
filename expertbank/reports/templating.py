"""Jinja2 templates of this folder: what a page says stands there, what it shows is worked out here.

Every value is escaped in HTML. In Markdown a value goes through the filter ``plain`` or ``code``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from expertbank.reports.escaping import code, plain

_OWN = "expertbank.reports"


def render(name: str, package: str = _OWN, **context: Any) -> str:
    """Fill ``templates/<name>.j2``; a value that is missing is an error.

    Args:
        name: of the template.
        package: whose folder it is in; templates there may include those of this one.
        context: the values.
    """
    return _environment(package).get_template(f"{name}.j2").render(context)


def style() -> str:
    """The style that pages share."""
    environment = _environment(_OWN)
    assert environment.loader is not None
    return environment.loader.get_source(environment, "style.css")[0]


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(one) for one in dict.fromkeys((package, _OWN))]),
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
