"""The page of all settings, ``docs/settings.md``, made from the settings themselves.

Make it anew with: ``python -m expertbank_cli.reference > docs/settings.md``
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import getdoc
from typing import get_origin

from expertbank.config import AdapterConfig, BankConfig, TrainConfig, TuneConfig
from expertbank.http.engine_limits import EngineConfig
from expertbank.http.limits import HttpConfig
from expertbank.plain import Numbers
from expertbank.serving.limits import ServeConfig
from expertbank.settings import Option, options_of
from expertbank.writing import WritingConfig

_INTRODUCTION = """\
# Settings

Made from the classes in `expertbank.config` and beside it, which check them too. An option's name
without the dashes in front is its key in a list of tasks (`expertbank add --list`), where `-` and
`_` are the same. In Python, the class takes the field: `TrainConfig(epochs=5)`.
"""
_COMMANDS = {
    BankConfig: "Options of `init`, and of the first `add`.",
    WritingConfig: "Options of `add`, keys of its lists, and `writing` of a task file.",
    TrainConfig: "Options of `add`, keys of its lists.",
    AdapterConfig: "Options of `add`, keys of its lists.",
    TuneConfig: "Options of `add`, keys of its lists.",
    ServeConfig: "Options of `serve`.",
    HttpConfig: "Options of `serve`.",
    EngineConfig: "Options of `serve --engine`.",
}


def page() -> str:
    """The page, as Markdown."""
    return "\n".join([_INTRODUCTION, *(line for cls in _COMMANDS for line in _section(cls))])


def _section(cls: type) -> Iterator[str]:
    yield f"## `{cls.__name__}`\n"
    yield f"{getdoc(cls)}\n\n{_COMMANDS[cls]}\n"
    yield "| option | field | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for option in options_of(cls):
        cells = (
            f"`{option.flag}`",
            f"`{option.field}`"
            + (f" = option x {option.about.unit:,}" if option.about.unit > 1 else ""),
            option.shown_default,
            _allowed(option),
            option.about.help,
        )
        yield f"| {' | '.join(cells)} |"
    yield ""


def _allowed(option: Option) -> str:
    if option.choices:
        return ", ".join(option.choices)
    if get_origin(option.kind) is tuple:
        return "any number of times"
    if option.kind == Numbers:
        return f"whole numbers {option.about.bounds}, one or with commas between"
    words = {int: "whole number", float: "number", bool: "flag", str: "text"}
    return " ".join(filter(None, (words[option.kind], option.about.bounds)))


if __name__ == "__main__":
    sys.stdout.write(page())
