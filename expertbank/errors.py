"""Every error expertbank raises on purpose, each with the exit code its command returns.

A message says what is wrong, where it is, and what to do next. The command line tells any other
error in one line too: what the system refuses with its file and reason (1, or 2 for a name that
cannot be), all else as a defect (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

MALFORMED = (
    *(AttributeError, LookupError, OverflowError),
    *(RecursionError, TypeError, ValueError),
)
"""What reading raises where plain values of a file, such as JSON's, are of another form."""


_LONGEST_NAME = 200
"""Characters of a name that messages repeat."""


class ExpertBankError(Exception):
    """Root of the tree; exit code 1."""

    exit_code: int = 1


class TrainingError(ExpertBankError):
    """Training could not go on, for example because the loss was not a number."""


class SourceUnavailableError(ExpertBankError):
    """A hub, package or file system that was asked for could not be reached."""


class ReadOnlyError(ExpertBankError):
    """The bank can be read here, and not written; exit code 1."""

    @classmethod
    def opened(cls, where: str) -> ReadOnlyError:
        """Build the error of a write to what its user opened for reading alone."""
        return cls(f"{where} was opened for reading only (read-only); open it for writing")


class InputError(ExpertBankError):
    """Bad input: data, options or names. Nothing was written; exit code 2."""

    exit_code = 2


class DataError(InputError):
    """A row or file of task data is unusable; the message starts with ``file:line``.

    Attributes:
        fault: what is wrong in two or three words; rows of one fault are told of together.
    """

    def __init__(self, message: str, fault: str = "unusable") -> None:
        super().__init__(message)
        self.fault = fault

    def kept(self) -> DataError:
        """The same without what was under way when it was raised, which may hold a whole file."""
        return DataError(str(self), self.fault)


class FeatureSpecError(InputError):
    """What was asked for does not fit the feature spec that the bank fixed at ``init``."""


class UnsupportedModelError(InputError):
    """The backbone's family is not known; the message lists candidate modules."""


class NoBackboneError(InputError, SourceUnavailableError):
    """What was named as the backbone is something else; exit code 2."""


class ExistsError(ExpertBankError):
    """The thing is already there; exit code 3."""

    exit_code = 3


class StaleError(ExpertBankError):
    """The bank changed while work was under way; exit code 4."""

    exit_code = 4


class GateFailedError(ExpertBankError):
    """A check that the user asked to enforce did not hold; exit code 5."""

    exit_code = 5


class NotFoundError(ExpertBankError):
    """The named thing does not exist; exit code 10."""

    exit_code = 10

    @classmethod
    def of(cls, what: str, name: str, known: Sequence[str], hint: str = "") -> NotFoundError:
        """Build the error with near names taken from ``known``; of a long name its beginning."""
        name = name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "..."
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        parts = [f"no {what} named {name!r}"]
        if near:
            parts.append("did you mean " + " or ".join(near) + "?")
        elif known:
            parts.append("known: " + ", ".join(sorted(known)[:20]))
        if hint:
            parts.append(hint)
        return cls("; ".join(parts))


class LockedError(ExpertBankError):
    """Another process holds the bank; exit code 11."""

    exit_code = 11


class SchemaTooNewError(ExpertBankError):
    """The database was written by a newer expertbank; exit code 12, nothing written."""

    exit_code = 12


class IntegrityError(ExpertBankError):
    """Stored bytes, a database or a backbone are not what their digests say; exit code 13."""

    exit_code = 13
