"""What every command shares: where the bank is, how to answer, and how to show progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from expertbank.files.paths import given_path

from . import streams
from .outcome import Outcome
from .progress import ProgressView
from .render import printable

if TYPE_CHECKING:
    from rich.console import Console

    from expertbank.bank import Bank
    from expertbank.records import ProgressCallback
    from expertbank.registry.registry import Registry
    from expertbank.workflows.home import Home

HOME_VARIABLE = "EXPERTBANK_HOME"
CACHE_VARIABLE = "EXPERTBANK_CACHE"
BYTES_VARIABLE = "EXPERTBANK_CACHE_BYTES"
WAIT_VARIABLE = "EXPERTBANK_LOCK_WAIT"


def default_home() -> str:
    """``EXPERTBANK_HOME``, else the platform's data folder; a variable that is empty is not set."""
    from platformdirs import user_data_path

    return os.environ.get(HOME_VARIABLE) or str(user_data_path("expertbank"))


def cache_folder() -> Path | None:
    """``EXPERTBANK_CACHE``, this machine's folder for banks in databases."""
    named = os.environ.get(CACHE_VARIABLE)
    return given_path(named, CACHE_VARIABLE) if named else None


def cache_bytes() -> int:
    """``EXPERTBANK_CACHE_BYTES``, else the library's own.

    Raises:
        InputError: not a number of bytes.
    """
    from expertbank.artifacts.cached import CACHE_BYTES
    from expertbank.errors import InputError

    named = os.environ.get(BYTES_VARIABLE)
    if not named:
        return CACHE_BYTES
    if not named.isdecimal():
        raise InputError(f"{BYTES_VARIABLE} must be a number of bytes, got {named!r}")
    return int(named)


def lock_wait() -> float:
    """``EXPERTBANK_LOCK_WAIT`` in seconds, else the library's own.

    Raises:
        InputError: not a number of seconds.
    """
    from expertbank.artifacts.lock import WAIT_SECONDS
    from expertbank.errors import InputError

    named = os.environ.get(WAIT_VARIABLE)
    try:
        seconds = WAIT_SECONDS if not named else float(named)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise InputError(f"{WAIT_VARIABLE} must be a number of seconds, got {named!r}")
    return seconds


@dataclass
class Session:
    """The global options of one call.

    Attributes:
        given: the bank's folder or the URL of its database, as it was given: for no eyes.
        as_json: one JSON document on stdout, everything else on stderr.
        quiet: no progress and no remarks.
        device: where the backbone runs; ``None`` chooses.
        outcome: what the command did so far.
    """

    given: str = field(repr=False)
    as_json: bool = False
    quiet: bool = False
    device: str | None = None
    outcome: Outcome = field(default_factory=Outcome)

    @cached_property
    def home(self) -> Home:
        """Where the bank is; as text, without secrets.

        Raises:
            InputError: no folder's name and no database's URL.
        """
        from expertbank.workflows.home import home_at

        return home_at(self.given, cache_folder())

    @property
    def out(self) -> Console:
        """Console for results that come bit by bit."""
        return streams.console()

    @property
    def err(self) -> Console:
        """Console for remarks."""
        return streams.console(stderr=True)

    def remark(self, text: str) -> None:
        """Say something that is not the result."""
        if not self.quiet:
            self.err.print(printable(self.outcome.here(text)), markup=False)

    def did(self, what: str) -> None:
        """Note what was committed, as soon as it is."""
        self.outcome.done.append(what)

    def answer(self, document: Any, show: Callable[[Console], None]) -> None:
        """Give the result: as JSON, or as ``show`` prints it. The work is done by then."""
        if self.as_json:
            text = streams.as_json(self.outcome.all_here(document), sys.stdout) + "\n"
            self._give(lambda: streams.write(text))
        else:
            self._give(lambda: show(streams.console()))

    def end_with(self, error: BaseException) -> NoReturn:
        """Fail by what came after that which was shown."""
        self.outcome.showing = False
        raise error

    def plain(self, text: str) -> None:
        """Give the result as it is: text for another program to read."""
        self._give(lambda: streams.write(text))

    def _give(self, write: Callable[[], None]) -> None:
        self.outcome.showing = True
        try:
            write()
            streams.flush()
        except (streams.OutputLost, OSError) as error:
            # Told at the end: what the command has to say of its work comes first.
            self.outcome.lost = error

    @contextmanager
    def progress(self) -> Iterator[ProgressCallback]:
        """A progress callback that draws on stderr, silent when quiet, and notes what lasts."""
        with ProgressView(self.err, quiet=self.quiet, lasting=self.did) as view:
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
            lock_wait=lock_wait(),
            cache_bytes=cache_bytes(),
        ) as bank:
            yield bank

    @property
    def writable(self) -> bool:
        """Whether the bank's folder can be written; a reading command need not care."""
        folder = self.home.folder
        if folder is None:
            return True  # what its user may do shows when it is done
        return os.access(folder, os.W_OK) or not folder.exists()

    def confirm(self, question: str) -> None:
        """Ask before something is deleted; whoever cannot be asked must have said ``--yes``.

        Raises:
            InputError: there is nobody to ask.
            typer.Exit: the answer was no.
        """
        import typer

        from expertbank.errors import InputError

        if self.as_json or not sys.stdin.isatty():
            raise InputError(
                f"{question} Nothing was done: repeat with --yes, or look first with --dry-run"
            )
        if not typer.confirm(question, err=True):
            self.remark("nothing was done")
            raise typer.Exit(1)

    @contextmanager
    def registry(self) -> Iterator[Registry]:
        """The open registry, to read."""
        with self.bank(read_only=True) as bank:
            yield bank.registry

    @contextmanager
    def registry_if_any(self) -> Iterator[Registry | None]:
        """The same; ``None`` where there is no bank."""
        from expertbank.errors import NotFoundError

        with ExitStack() as stack:
            try:
                found = stack.enter_context(self.registry())
            except NotFoundError:
                found = None
            yield found
