"""Ctrl-C and SIGTERM: noticed from the first moment, and told in one line.

While the program starts there is nothing to lose, so it ends at once. While a command works, the
signal is a ``KeyboardInterrupt`` that undoes what is half-done, once an import has come to its end.
When the exit code is known, it only ends the process sooner.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # ``typing`` itself would take a while to import
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

WATCHED = (signal.SIGINT, signal.SIGTERM)
_OURS = {signal.default_int_handler, signal.SIG_DFL}
_watched: list[int] = []
_received: list[int] = []


def watch() -> None:
    """Answer the signals of this process; those that its parent had it ignore stay ignored."""
    for number in WATCHED:
        if signal.getsignal(number) in _OURS:
            signal.signal(number, _leave_at_once)
            _watched.append(number)


def begin() -> None:
    """From here the command works: a signal interrupts it."""
    for number in _watched:
        signal.signal(number, _interrupt)
    if _watched:
        import logging  # not before: the signals are watched from the first moment

        sys.unraisablehook = _unraisable
        # It logs an interrupt that comes while a connection is closed, with a traceback, and then
        # raises it: the command tells of it in its own line.
        logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


def end(code: int) -> None:
    """From here the exit code is known, and a signal changes nothing about it."""
    for number in _watched:
        signal.signal(number, lambda *_: os._exit(code))


def received() -> int | None:
    """The signal that interrupted the command, if one did."""
    return _received[0] if _received else None


def word(number: int) -> str:
    """What a signal did, in a word."""
    return "terminated" if number == signal.SIGTERM else "interrupted"


def _leave_at_once(number: int, frame: FrameType | None) -> None:
    try:
        os.write(2, f"expertbank: {word(number)}; nothing was done\n".encode())
    finally:
        os._exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        _again(number)  # libraries in C++ abort when their import is interrupted
        return
    if _received and number == signal.SIGTERM:
        os._exit(128 + number)  # asked twice: what is undone by now has to do
    _received.append(number)
    raise KeyboardInterrupt


def _unraisable(lost: Any) -> None:
    """Repeat an interrupt that hit where Python cannot raise it, such as in a destructor.

    It interrupted nothing, so it does not count as received: the repeat is not the second of two.
    """
    if isinstance(lost.exc_value, KeyboardInterrupt) and _received:
        _again(_received.pop())
    else:
        sys.__unraisablehook__(lost)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported somewhere below."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _again(number: int) -> None:
    """Send the signal once more in a moment."""
    from threading import Timer

    timer = Timer(0.02, os.kill, (os.getpid(), number))
    timer.daemon = True
    timer.start()
