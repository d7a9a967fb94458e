"""What is wrong with a server that runs, and how to find out whether it still is."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from expertbank.errors import ExpertBankError

LOG = logging.getLogger("expertbank.serving")
"""Tells each fault once: callers are not told what it is."""
MOST = 16
"""Faults that are remembered; more are not told apart from these."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """How to try again what failed, and whether any pass that succeeds ends it too."""

    again: Callable[[], object]
    until_a_pass: bool


class Faults:
    """Sentences that hold until what they tell of succeeds again. Safe for threads."""

    def __init__(self) -> None:
        self._found: dict[str, _Fault] = {}
        self._lock = Lock()

    @property
    def first(self) -> str | None:
        """The one that was noted first."""
        with self._lock:
            return next(iter(self._found), None)

    def note(
        self, sentence: str, again: Callable[[], object], *, until_a_pass: bool = False
    ) -> None:
        """Remember a fault.

        Args:
            sentence: what is wrong.
            again: does once more what failed; raises while it still fails.
            until_a_pass: whether it is that no pass succeeds, which any that does disproves.
        """
        with self._lock:
            if sentence in self._found or len(self._found) >= MOST:
                return
            self._found[sentence] = _Fault(again, until_a_pass)
        LOG.error("%s", sentence)

    def passed(self) -> None:
        """A pass succeeded: forget that none does."""
        with self._lock:
            ended = [sentence for sentence, one in self._found.items() if one.until_a_pass]
            for sentence in ended:
                del self._found[sentence]

    def forget(self) -> None:
        """Start afresh: what they told of is not served any more."""
        with self._lock:
            self._found.clear()

    def retry(self) -> None:
        """Try again what failed, and forget what does not fail any more."""
        with self._lock:
            found = list(self._found.items())
        for sentence, fault in found:
            if _works(fault.again):
                with self._lock:
                    self._found.pop(sentence, None)


def _works(again: Callable[[], object]) -> bool:
    try:
        again()
    except Exception:  # noqa: BLE001  # whatever it is: it still fails
        return False
    return True


def sentence_of(error: BaseException) -> str:
    """An error as a sentence; one that nobody foresaw is named by its type too."""
    text = str(error)
    return text if isinstance(error, ExpertBankError) else f"{type(error).__name__}: {text}"
