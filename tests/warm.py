"""The real command in a process of its own, without importing torch for each: one process imports
everything once, computes nothing, and forks for every command that a test or a script starts.

``command()`` is what to run in place of ``python -m expertbank_cli.main``: the same words, folder,
environment, standard streams, signals and exit code, and what kills it kills the command. What
depends on how an interpreter starts (encodings, limits, settings that libraries read when they are
imported) or on streams that are closed needs the command itself.
"""

from __future__ import annotations

import array
import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

STREAMS = (0, 1, 2)
LATE = (
    "expertbank.bank",
    "expertbank.http.app",
    "expertbank.reports.html",
    "expertbank.training.expert",
    "expertbank.workflows.answering.predict",
    "expertbank.workflows.growing.add",
    "expertbank.workflows.growing.retrain",
    "expertbank.workflows.proving.report",
    "expertbank.workflows.shipping.export_bundle",
    "scipy.stats",
    "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
    "transformers.models.auto.modeling_auto",
    "uvicorn",
)
"""What commands import when they come to it."""


@cache
def command(python: str = sys.executable) -> tuple[str, ...]:
    """Words that run the command of ``python``'s environment, whose process starts with the first
    call and ends with the tests."""
    folder = tempfile.TemporaryDirectory(prefix="w")  # the name of a socket must be short
    place = Path(folder.name) / "s"
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen([python, __file__, "serve", place], env=settings)

    def end() -> None:
        server.kill()
        server.wait()
        folder.cleanup()

    atexit.register(end)
    while not place.exists():
        assert server.poll() is None, "the warm process ended"
        time.sleep(0.05)
    return python, "-S", __file__, str(place)


def client(place: str, words: list[str]) -> int:
    """Have a command run, hand signals on, and give back its exit code."""
    asked = json.dumps([words, os.getcwd(), dict(os.environ)]).encode()
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(place)
        line.sendmsg(
            [len(asked).to_bytes(4, "big")],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", STREAMS))],
        )
        line.sendall(asked)
        reader = line.makefile("rb")
        child = int(reader.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(child, number))
        return int(reader.readline())


def serve(place: str) -> None:
    """Import everything, then fork for each command until killed."""
    from importlib import import_module

    from expertbank_cli.app import app
    from expertbank_cli.main import run
    from typer.main import get_command

    gc.disable()  # what is imported stays; each command sets its own threshold
    for name in LATE:
        import_module(name)
    group: Any = get_command(app)
    dict(group.commands)  # imports and builds them all
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(place)
        door.listen()
        while True:
            line, _ = door.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                door.close()
                _wait_for(line, run)
            line.close()


def _wait_for(line: socket.socket, run: Callable[[], NoReturn]) -> None:
    """Fork once more: the child is the command, this process tells how it ended."""
    head, rights, *_ = line.recvmsg(4, socket.CMSG_SPACE(len(STREAMS) * 4))
    streams = array.array("i")
    streams.frombytes(rights[0][2])
    size = int.from_bytes(head, "big")
    words, folder, environment = json.loads(line.makefile("rb").read(size))
    child = os.fork()
    if child == 0:
        gc.enable()
        line.close()
        for ours, theirs in zip(STREAMS, streams, strict=True):
            os.dup2(theirs, ours)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["expertbank", *words]
        try:
            run()
        except SystemExit as ended:
            _end(int(ended.code or 0))
    line.sendall(b"%d\n" % child)
    with open(os.pidfd_open(child)) as ended:
        ready, _, _ = select.select([ended, line], [], [])
    if ended not in ready:  # the client is gone, and hears no more
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    line.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _end(code: int) -> None:
    """As an interpreter ends, but for taking down all that it shares with the warm process."""
    threading._shutdown()  # type: ignore[attr-defined]  # what an interpreter calls at its end
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        sys.path[:] = [one for one in sys.path if Path(one).resolve() != Path(__file__).parent]
        serve(sys.argv[2])
    else:
        code = client(sys.argv[1], sys.argv[2:])
        sys.exit(code if code >= 0 else 128 - code)
