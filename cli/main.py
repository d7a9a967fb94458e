"""The entry of ``expertbank``. It imports next to nothing, so Ctrl-C is answered from the start."""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False  # ``typing`` itself would take a while to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

NEW_OBJECTS = 100_000
"""How many new objects a process makes before it looks through them for unreachable cycles. Imports
make many that stay, and Python's own 700 would have it look at them again and again."""


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code.

    Args:
        arguments: the words of the command. Without them it is this process's own command, and
            the process's signals and standard streams are prepared for it; with them, they are
            the caller's and stay as they are.
    """
    if arguments is None:
        from .signals import watch

        watch()  # before anything that takes time
        gc.set_threshold(NEW_OBJECTS)
        from .streams import prepare

        prepare()
    from .app import app
    from .ending import execute

    code = execute(app, list(sys.argv[1:] if arguments is None else arguments))
    if arguments is None:
        gc.freeze()  # else all that was imported is looked through once more at the exit
    sys.exit(code)


def __getattr__(name: str) -> Any:
    if name == "app":  # what makes the import of the entry slow
        from .app import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    run()
