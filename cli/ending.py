"""How a command ends: its exit code, and the one line that says why.

What was committed stays done, so nothing that happens while it is shown makes a failure of it.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from typing import Any

import typer
from typer.exceptions import TyperException

from expertbank.errors import ExpertBankError
from expertbank.plugins import at_fault

from . import signals, streams
from .given_once import require_once
from .outcome import Outcome
from .render import printable
from .words import GLOBALS, split_globals

FAILED, USAGE, INTERRUPTED = 1, 2, 130
TRACEBACK_VARIABLE = "EXPERTBANK_TRACEBACK"
_NAMES = {errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EINVAL}
"""What the system says of a path that cannot be what it was given for: bad input."""
_ADVICE = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EFBIG: "write to another disk",
    errno.EROFS: "write to another disk",
    errno.EIO: "check the disk",
    errno.EACCES: "check permissions",
    errno.EPERM: "check permissions",
    errno.ENAMETOOLONG: "shorten it",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


_FEW = 10
"""Groups with fewer commands are small enough to be looked through for an option."""


def execute(app: typer.Typer, words: list[str]) -> int:
    """Run one command, say how it ended, and give back its exit code."""
    outcome, error, code = Outcome(words), None, 0
    front: list[str] | None = None
    try:
        signals.begin()
        front, rest = split_globals(words)
        require_once([word.partition("=")[0] for word in front])
        given = app(
            args=[*front, *rest], obj=outcome, prog_name="expertbank", standalone_mode=False
        )
        if given == INTERRUPTED:  # Typer caught Ctrl-C itself, and says nothing
            raise KeyboardInterrupt
        code = given if isinstance(given, int) else 0
        streams.flush()
    except BaseException as caught:  # noqa: BLE001 (every end comes by here)
        error = caught
    code, message = ended(error, code, outcome)
    message = outcome.here(message)
    signals.end(code)
    if error is not None and code != USAGE and os.environ.get(TRACEBACK_VARIABLE):
        traceback.print_exception(error)
    if message:
        as_json = "--json" in (words if front is None else front) and code != 0
        told = {"error": {"code": code, "message": message} | outcome.to_dict()}
        streams.say(streams.as_json(told, sys.stderr) if as_json else _lines(message))
    return code


def ended(error: BaseException | None, code: int, outcome: Outcome) -> tuple[int, str]:
    """The exit code of a command, and what to say of it; nothing where the result says it all.

    Args:
        error: what ended it, if it did not just end.
        code: its exit code if it did.
        outcome: what is known of it.
    """
    if isinstance(error, SystemExit):
        return (error.code, "") if isinstance(error.code, int) else (FAILED, str(error.code or ""))
    expected = error is None or isinstance(error, ExpertBankError | TyperException | typer.Exit)
    if outcome.showing and outcome.done and not outcome.todo and not expected:
        error, outcome.lost = None, error
    if error is not None:
        return _failed(error, outcome)
    if outcome.lost is None:
        return code, ""
    return _unshown(outcome.lost, code, outcome)


def _unshown(lost: BaseException, code: int, outcome: Outcome) -> tuple[int, str]:
    """The end of a command whose result could not be shown."""
    reason = "interrupted" if isinstance(lost, KeyboardInterrupt) else _reason(lost)
    message = f"cannot write standard output: {reason}"
    if outcome.done:
        return code, f"{message}{outcome.told}; look at it with: expertbank history"
    quiet = isinstance(lost, streams.OutputLost) and lost.reader_left
    return code or FAILED, "" if quiet else message


def described(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error, whatever was done before it."""
    return _failed(error, Outcome())


def _failed(error: BaseException, outcome: Outcome) -> tuple[int, str]:
    """Exit code and message of a command that an error ended."""
    number = signals.received()
    if number is not None or isinstance(error, KeyboardInterrupt):
        code = INTERRUPTED if number is None else 128 + number
        resume = outcome.resume
        if not resume and "--resume" in outcome.words:
            resume = f"; this run kept nothing, go on with: {outcome.again}"
        said = outcome.told or ("" if resume else "; nothing half-done was kept")
        return code, signals.word(number or 0) + said + resume
    match error:
        case streams.OutputLost():
            return _unshown(error, FAILED, outcome)
        case TyperException():
            return USAGE, error.format_message() + _free_text(error, outcome.words)
        case typer.Abort():
            return FAILED, f"no answer was given; nothing was done{outcome.told}"
        case ExpertBankError():
            return error.exit_code, f"{error}{outcome.told}"
        case OSError():
            code = USAGE if error.errno in _NAMES and not outcome.done else FAILED
            return code, f"{_reason(error)}{outcome.told}"
        case UnicodeEncodeError(object=text) if error.reason == "surrogates not allowed":
            told = f"a name holds bytes that are not UTF-8: {text[:300]!r}; rename it"
            return USAGE if not outcome.done else FAILED, f"{told}{outcome.told}"
        case MemoryError():
            return FAILED, f"there is not enough memory{outcome.told}"
    package = at_fault(error)
    whose, whom = (f"package {package}", " to its authors") if package else ("expertbank", "")
    about = f"a defect of {whose}: {_reason(error)}"
    how = f"set {TRACEBACK_VARIABLE}=1 to see where, and report it{whom}"
    return FAILED, f"{about}{outcome.told}; {how}"


def _reason(error: BaseException) -> str:
    """An error in one line: of the system's, with the file that it is about."""
    if isinstance(error, streams.OutputLost):
        return str(error)
    if not isinstance(error, OSError):
        text = " ".join(str(error).split())
        return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    reason = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0)
    what = f"cannot use {' or '.join(names)}" if names else "the system refused"
    return f"{what}: {reason}" + (f"; {advice}" if advice else "")


def _free_text(error: TyperException, words: list[str]) -> str:
    """How to give what looks like an option as a text, to a command that takes texts."""
    context: Any = getattr(error, "ctx", None)
    name = getattr(error, "option_name", "")
    parameters = context.command.params if context else []
    if not name or all(one.param_type_name != "argument" for one in parameters):
        return ""
    beside = getattr(context.parent.command, "commands", {}) if context.parent else {}
    known = {option for one in parameters for option in one.opts} | GLOBALS
    for command in beside.values() if len(beside) < _FEW else ():
        known |= {option for one in command.params for option in one.opts}
    odd = [word for word in words if word[:1] == "-" and word.partition("=")[0] not in known]
    if not odd:
        return ""
    # Of several letters behind one dash the error names any.
    text = next((word for word in odd if word.startswith(name) or word[1:2] != "-"), name)
    return (
        f"; if it is meant as a text, put -- in front: {shlex.join([*_path(context), '--', text])}"
    )


def _path(context: Any) -> list[str]:
    return [*(_path(context.parent) if context.parent else ()), str(context.info_name)]


def _lines(message: str) -> str:
    # Messages quote file names, columns and labels of users' data.
    return "\n".join(printable(line) for line in f"expertbank: {message}".split("\n"))
