"""Commands that refuse an option given twice where only one value could count."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from expertbank.errors import InputError


class Command(TyperCommand):
    """A command whose options each stand once, but for those that take several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse as ever; the parser alone would let the last value win in silence.

        Raises:
            InputError: an option with one value stands twice.
        """
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            require_once([one.opts[0] for one in order if _takes_one(one)])
        return super().parse_args(ctx, args)


def require_once(options: list[str]) -> None:
    """Refuse the first that stands twice among ``options``.

    Raises:
        InputError: there is one.
    """
    for place, option in enumerate(options):
        if option in options[:place]:
            raise InputError(f"{option} stands twice, and takes one value: leave one out")


def _takes_one(parameter: Any) -> bool:
    return (
        parameter.param_type_name == "option" and not parameter.is_flag and not parameter.multiple
    )
