"""Commands that refuse to be given two of what they work on where only the last would count.

A setting may stand twice: whoever wraps a command overrides it by adding to the end.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from expertbank.errors import InputError

WORKED_ON = frozenset(
    {"--home", "--bundle", "--data", "--file", "--list", "--peft", "--spec", "--task"}
)
"""Options whose values are what a command works on."""


class Command(TyperCommand):
    """A command that is given one of each thing to work on, or takes them all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as ever; the parser alone would let the last value win in silence.

        Raises:
            InputError: two values where one counts.
        """
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            require_once([one.opts[0] for one in order if not getattr(one, "multiple", False)])
        return super().parse_args(ctx, args)


def require_once(options: list[str]) -> None:
    """Refuse the first of ``WORKED_ON`` that stands twice.

    Raises:
        InputError: there is one.
    """
    for place, option in enumerate(options):
        if option in WORKED_ON and option in options[:place]:
            raise InputError(f"{option} stands twice, and takes one value: leave one out")
