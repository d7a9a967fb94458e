"""What every command shares: where the bank is, how to answer, and how to show progress."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from .progress import ProgressView

if TYPE_CHECKING:
    from expertbank.bank import Bank
    from expertbank.records import ProgressCallback
    from expertbank.registry.registry import Registry

HOME_VARIABLE = "EXPERTBANK_HOME"


def default_home() -> Path:
    """``EXPERTBANK_HOME``, else the platform's data folder."""
    from platformdirs import user_data_path

    named = os.environ.get(HOME_VARIABLE)
    return Path(named).expanduser() if named else user_data_path("expertbank")


@dataclass(slots=True)
class Session:
    """The global options of one call.

    Attributes:
        home: the bank's folder.
        as_json: one JSON document on stdout, everything else on stderr.
        quiet: no progress and no remarks.
        device: where the backbone runs; ``None`` chooses.
    """

    home: Path
    as_json: bool = False
    quiet: bool = False
    device: str | None = None

    @property
    def out(self) -> Console:
        """Console for results."""
        # Without a terminal there is no width to fit: let rows be as long as they are.
        return Console(
            soft_wrap=not sys.stdout.isatty(),
            highlight=False,
            emoji=False,
            **_width(sys.stdout),
        )

    @property
    def err(self) -> Console:
        """Console for remarks."""
        return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

    def remark(self, text: str) -> None:
        """Say something that is not the result."""
        if not self.quiet:
            self.err.print(text, markup=False)

    def answer(self, document: Any, show: Callable[[Console], None]) -> None:
        """Give the result: as JSON, or as ``show`` prints it."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        else:
            show(self.out)

    def plain(self, text: str) -> None:
        """Give the result as it is: text for another program to read."""
        sys.stdout.write(text)
        sys.stdout.flush()

    @contextmanager
    def progress(self) -> Iterator[ProgressCallback]:
        """A progress callback that draws on stderr; silent when quiet."""
        with ProgressView(self.err, quiet=self.quiet) as view:
            yield view

    @contextmanager
    def bank(
        self, *, create: bool = False, read_only: bool = False, backbone: str | None = None
    ) -> Iterator[Bank]:
        """The open bank."""
        from expertbank.bank import Bank

        with Bank.open(
            self.home,
            create=create,
            read_only=read_only,
            backbone=backbone,
            device=self.device,
        ) as bank:
            yield bank

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """The open registry, to read."""
        with self.bank(read_only=True) as bank:
            yield bank.registry


def _width(stream: Any) -> dict[str, Any]:
    return {} if stream.isatty() else {"width": 160}
