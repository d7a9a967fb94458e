"""Options that several commands take, said once."""

from __future__ import annotations

from typing import Annotated

import typer

TextColumn = Annotated[str | None, typer.Option(help="Column of the text.")]
PairColumn = Annotated[str | None, typer.Option(help="Column of the second text.")]
ChoicesColumn = Annotated[
    list[str] | None, typer.Option(help="Column of the choices; repeat it for one column a choice.")
]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the label.")]
