"""The forgetting report of what is served, made from stored evidence once a state, aside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

from expertbank.errors import ExpertBankError, IntegrityError
from expertbank.reports.forgetting import ForgettingReport

_LOG = logging.getLogger(__name__)

NONE = "A bundle holds no evidence to report on; ask the bank that it was exported from."
WAIT = "The report is being made from stored evidence; load the page again in a moment."
DAMAGED = "Stored evidence is not what its digest says. Run: expertbank verify"
FAILED = "The report could not be made; the server's log says why."


@dataclass(frozen=True, slots=True)
class Told:
    """A report, or a sentence on why there is none."""

    report: ForgettingReport | None = None
    why: str | None = None


class LastReport:
    """Makes a report when one is asked for, and again only when another state is served.

    Args:
        make: makes one; ``None`` where there is nothing to report on, as for a bundle.
    """

    def __init__(self, make: Callable[[], ForgettingReport] | None) -> None:
        self._make = make
        self._number = 0
        self._made: Future[Told] = Future()
        self._made.set_result(Told(why=WAIT))

    async def of(self, number: int, seconds: float) -> Told:
        """The report of a state.

        Args:
            number: the state's.
            seconds: how long to wait for it; one that takes longer is there another time.
        """
        if self._make is None:
            return Told(why=NONE)
        # One at a time: a bank that changes often is not reported on ever faster.
        if self._number != number and self._made.done():
            self._number, self._made = number, Future()
            Thread(target=self._run, args=(self._made,), daemon=True).start()
        made = self._made
        # In the loop: however many wait, they hold up no thread that others need.
        await asyncio.wait({asyncio.wrap_future(made)}, timeout=seconds)
        return made.result() if made.done() and self._number == number else Told(why=WAIT)

    def _run(self, made: Future[Told]) -> None:
        assert self._make is not None
        told = Told(why=FAILED)
        try:
            told = Told(self._make())
        except IntegrityError as error:
            _LOG.error("the forgetting report found damage: %s", error)
            told = Told(why=DAMAGED)
        except (ExpertBankError, OSError) as error:
            _LOG.error("the forgetting report could not be made: %s", error)
        finally:
            made.set_result(told)
