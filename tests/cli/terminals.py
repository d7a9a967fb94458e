"""Running the command on a real pseudo-terminal of any width."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios
from pathlib import Path

import warm


def on_a_terminal(
    *words: object, columns: int, environment: dict[str, str] | None = None, out: Path | None = None
) -> tuple[int, str]:
    """Exit code of a command and what its terminal got; with ``out`` only stderr is a terminal."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    unset = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    with (
        (out or Path(os.devnull)).open("wb") as file,
        subprocess.Popen(
            [*warm.command(), *map(str, words)],
            stdin=slave,
            stdout=slave if out is None else file,
            stderr=slave,
            env={**unset, "TERM": "xterm", "NO_COLOR": "1", **(environment or {})},
        ) as process,
    ):
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            shown += part
        os.close(master)
        code = process.wait(timeout=60)
    return code, shown.decode().replace("\r\n", "\n")
