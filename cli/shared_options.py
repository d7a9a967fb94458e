"""Options that several commands have, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import path

Backbone = Annotated[
    str | None, typer.Option(help="Where the backbone is, if not where the bank or bundle says.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would happen.")]
FromBundle = Annotated[
    Path | None, typer.Option(parser=path, help="Answer from this bundle; no bank is needed.")
]
RetrainRouter = Annotated[
    bool, typer.Option("--retrain-router", help="Refit and activate the router afterwards.")
]
SecondOpinion = Annotated[
    bool,
    typer.Option(
        "--second-opinion",
        help="Where the two best tasks lie close, ask both experts; such rows take two passes.",
    ),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave malformed rows out instead of ending at the first."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
