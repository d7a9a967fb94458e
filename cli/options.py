"""From settings to options: a command takes the fields of a settings class, said there once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, get_origin

import typer

from expertbank.settings import Option, options_of, setting

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """Which column of the data holds what."""

    text_column: str | None = setting(None, "Column of the text.")
    pair_column: str | None = setting(None, "Column of the second text.")
    choices_column: tuple[str, ...] = setting(
        (), "Column of the choices; repeat it for one column a choice."
    )
    label_column: str | None = setting(None, "Column of the label.")

    def by_role(self) -> dict[str, Any]:
        """The columns by what they hold, as tasks name them."""
        return {
            "text": self.text_column,
            "text_pair": self.pair_column,
            "choices": self.choices_column,
            "label": self.label_column,
        }


def takes(*classes: type, only: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command an option for each field of settings classes.

    In the help they stand before the command's keyword-only parameters. The command gets as further
    keywords, by option key, what the user gave and nothing else: defaults stay with the settings.

    Args:
        classes: settings classes, in the order of their options in the help.
        only: keys of the options to take; default all.
    """
    options = [o for cls in classes for o in options_of(cls) if not only or o.key in only]
    keys = {option.key for option in options}

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**values: Any) -> None:
            command(**{k: v for k, v in values.items() if k not in keys or v not in (None, [])})

        own = inspect.signature(command, eval_str=True).parameters.values()
        first = [one for one in own if one.kind is one.POSITIONAL_OR_KEYWORD]
        last = [one for one in own if one.kind is one.KEYWORD_ONLY]
        signature = inspect.Signature([*first, *map(_parameter, options), *last])
        run.__signature__ = signature  # type: ignore[attr-defined]  # what inspect reads
        return run

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    default = f" Default {option.shown_default}." if option.shown_default else ""
    about = typer.Option(option.flag, help=option.about.help + default)
    kind = list[str] if get_origin(option.kind) is tuple else option.kind
    return inspect.Parameter(
        option.key,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, about],
    )
