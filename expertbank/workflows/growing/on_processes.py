"""Workers that are processes of this machine, each with its own backbone and its share of cores."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from expertbank.settings import number
from expertbank.workflows.growing.crowd import Happened
from expertbank.workflows.growing.jobs import AddJob
from expertbank.workflows.growing.working import Backbones


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    line: Connection
    job: str = ""


class Processes:
    """A crowd of processes on this machine.

    Args:
        workers: how many.
        threads: of each; what an expert's digest depends on. Default the cores, shared out.
        device: where they compute, such as ``cpu``.

    Raises:
        InputError: a number that is not whole or not above 0.
    """

    def __init__(self, workers: int, threads: int | None = None, device: str | None = None) -> None:
        self._count = number(workers, "workers", "Processes", int, least=1)
        shared = max(1, cores() // workers) if threads is None else threads
        self._threads = number(shared, "threads", "Processes", int, least=1)
        self._device = device
        # A fork would lose the threads of whoever has computed here.
        self._context = get_context("spawn")
        self._workers: list[_Worker] = []

    @property
    def width(self) -> int:
        """See ``Crowd``."""
        return self._count

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _end(self._workers)
        self._workers.clear()

    def start(self, job: AddJob, state: bytes | None) -> None:
        """See ``Crowd``."""
        idle = next((worker for worker in self._workers if not worker.job), None)
        if idle is None:
            idle = self._hired()
        idle.job = job.entry.id
        with suppress(OSError):  # one that died while idle is found by ``wait``
            idle.line.send((job, state))

    def stop(self, job: str) -> None:
        """See ``Crowd``."""
        ended = [worker for worker in self._workers if worker.job == job]
        _end(ended)
        self._workers = [worker for worker in self._workers if worker not in ended]

    def wait(self) -> Happened:
        """See ``Crowd``."""
        busy = {worker.line: worker for worker in self._workers if worker.job}
        ready: Sequence[object] = wait(list(busy))
        worker = next(busy[line] for line in ready if isinstance(line, Connection))
        try:
            happened: Happened = worker.line.recv()
        except (EOFError, OSError):
            return self._buried(worker)
        if happened.finished is not None or happened.error is not None:
            worker.job = ""
        return happened

    def _hired(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(theirs, self._threads, self._device), daemon=True
        )
        process.start()
        theirs.close()
        self._workers.append(worker := _Worker(process, ours))
        return worker

    def _buried(self, worker: _Worker) -> Happened:
        worker.process.join()
        self._workers.remove(worker)
        code = worker.process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Happened(worker.job, died=how)


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.line.close()
        worker.process.kill()
    for worker in workers:
        worker.process.join()


def serve(line: Connection, threads: int, device: str | None) -> None:
    """A worker's life: jobs come down the line, what happens goes up, until nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a person's Ctrl-C is for who hired it
    import torch

    torch.set_num_threads(threads)
    backbones = Backbones(device)
    while True:
        try:
            job, state = line.recv()
            line.send(backbones.result(job, state, line.send))
        except (EOFError, OSError):
            return
