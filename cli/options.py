"""From settings to options: a command takes the fields of a settings class, said there once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_origin

import typer

from expertbank.errors import InputError
from expertbank.files.paths import given_path
from expertbank.plain import Numbers
from expertbank.settings import Option, options_of, setting

from . import completing

if TYPE_CHECKING:
    from expertbank.data import Columns, ReadAs, TaskSpec

Command = Callable[..., None]


def path(text: str) -> Path:
    """What a user gave as a path, for ``parser=``."""
    try:
        return given_path(text, "a path")
    except InputError as error:
        raise typer.BadParameter(str(error)) from None


@dataclass(frozen=True, slots=True)
class DataOptions:
    """How rows are read: which column holds what, and what a file does not tell of itself."""

    text_column: str | None = setting(None, "Column of the text.")
    pair_column: str | None = setting(None, "Column of the second text.")
    choices_column: tuple[str, ...] = setting(
        (), "Column of the choices; repeat it for one column a choice."
    )
    label_column: tuple[str, ...] = setting(
        (),
        "Column of the label; repeat it for one column of 0 and 1 for each label (multi_label).",
    )
    label_separator: str | None = setting(
        None, "What parts several labels in one column, such as ';' (multi_label)."
    )
    separator: str | None = setting(
        None,
        "What parts the cells of a text file: one character, or tab.",
        unset="recognised: , ; tab |",
    )
    encoding: str | None = setting(
        None, "Encoding of text files, such as cp1252.", unset="utf-8, or what the file's mark says"
    )

    def columns(self) -> Columns:
        """The columns by what they hold."""
        from expertbank.data import Columns

        return Columns.named(
            self.text_column,
            self.pair_column,
            self.choices_column,
            self.label_column,
            self.label_separator,
        )

    def read_as(self) -> ReadAs:
        """Separator and encoding.

        Raises:
            InputError: no such encoding, or a separator of several characters.
        """
        from expertbank.data import ReadAs

        return ReadAs(self.separator, self.encoding)

    def of(self, spec: TaskSpec) -> TaskSpec:
        """A task whose rows are read so."""
        return spec.read_with(self.columns(), self.read_as())


OF_LABELS = ("label_column", "label_separator")
"""The options of data that rows without labels have no use for."""


def takes(*classes: type, without: Collection[str] = ()) -> Callable[[Command], Command]:
    """Give a command an option for each field of settings classes that it does not declare itself.

    In the help they stand before the command's keyword-only parameters. The command gets as further
    keywords, by option key, what the user gave and nothing else: defaults stay with the settings.

    Args:
        classes: settings classes, in the order of their options in the help.
        without: fields that are of no use to the command.
    """

    def decorate(command: Command) -> Command:
        parameters = inspect.signature(command, eval_str=True).parameters
        left_out = {*parameters, *without}
        options = [o for cls in classes for o in options_of(cls) if o.field not in left_out]
        keys = {option.key for option in options}

        @wraps(command)
        def run(**values: Any) -> None:
            command(**{k: v for k, v in values.items() if k not in keys or v not in (None, [])})

        own = parameters.values()
        first = [one for one in own if one.kind is one.POSITIONAL_OR_KEYWORD]
        last = [one for one in own if one.kind is one.KEYWORD_ONLY]
        signature = inspect.Signature([*first, *map(_parameter, options), *last])
        run.__signature__ = signature  # type: ignore[attr-defined]  # what inspect reads
        return run

    return decorate


def _parameter(option: Option) -> inspect.Parameter:
    default = f" Default {option.shown_default}." if option.shown_default else ""
    names = completing.catalogued if option.key == "task" else None
    about = typer.Option(option.flag, help=option.about.help + default, autocompletion=names)
    kind = list[str] if get_origin(option.kind) is tuple else option.kind
    kind = str if kind == Numbers else kind
    return inspect.Parameter(
        option.key,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, about],
    )
