"""Options that several commands take, said once."""

from __future__ import annotations

from typing import Annotated

import typer

TextColumn = Annotated[str | None, typer.Option(help="Column of the text.")]
PairColumn = Annotated[str | None, typer.Option(help="Column of the second text.")]
ChoicesColumn = Annotated[
    list[str] | None, typer.Option(help="Column of the choices; repeat it for one column a choice.")
]
LabelColumn = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of the label; repeat it for one column of 0 and 1 for each label "
        "(multi_label)."
    ),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(help="What parts several labels in one column, such as ';' (multi_label)."),
]
