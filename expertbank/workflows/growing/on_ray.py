"""Workers that are tasks of a Ray cluster: one an expert, each with cores of its own.

Every node needs this version of expertbank, and the backbone where the bank's reference says it is.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Any

from expertbank.errors import ExpertBankError, InputError
from expertbank.settings import number
from expertbank.workflows.growing.crowd import Happened
from expertbank.workflows.growing.jobs import AddJob
from expertbank.workflows.growing.working import Backbones

PATIENCE = 0.2
"""Seconds to wait for progress before looking for results again."""


class Ray:
    """A crowd on a Ray cluster.

    Args:
        address: of the cluster, such as ``ray://head:10001``; ``None`` for the one that this
            machine is part of, or one of its own.
        threads: cores of each task, which are the threads it computes with: what an expert's digest
            depends on.
        device: where they compute, such as ``cpu``.

    Raises:
        InputError: Ray is not installed, or ``threads`` is not a whole number above 0.
        ExpertBankError: the cluster cannot be reached, is lost, or has no machine with as many
            cores as one task needs.
    """

    def __init__(
        self, address: str | None = None, threads: int = 1, device: str | None = None
    ) -> None:
        self._threads = number(threads, "threads", "Ray", int, least=1)
        try:
            import ray
        except ImportError as error:
            raise InputError(
                "experts cannot be trained on Ray without it: pip install 'expertbank[ray]'"
            ) from error
        self._ray: Any = ray
        self._address, self._device = address, device
        self._begun = count()
        # Reference of a task to its own number and its job, which a later task may have too.
        self._running: dict[Any, tuple[int, str]] = {}
        self._told: deque[Happened] = deque()
        self._queue: Any = None
        self._task: Any = None
        self._width, self._ours = 1, False

    @property
    def width(self) -> int:
        """See ``Crowd``."""
        return self._width

    def __enter__(self) -> Ray:
        self._ours = not self._ray.is_initialized()
        try:
            if self._ours:
                self._connect()
            with self._reached():
                self._settle()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(*self._losses):  # whoever is gone needs no ending
            for reference in self._running:
                self._ray.cancel(reference, force=True)
            if self._queue is not None:
                self._queue.shutdown(force=True)
        self._running.clear()
        if self._ours:
            self._ray.shutdown()

    def _connect(self) -> None:
        """Join the cluster, or start one.

        Raises:
            ExpertBankError: there is none.
        """
        try:
            with _own_sigterm():
                self._ray.init(
                    address=self._address,
                    log_to_driver=False,
                    logging_level="ERROR",
                    include_dashboard=False if self._address is None else None,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            where, why = self._address or "this machine", " ".join(str(error).split())
            raise ExpertBankError(
                f"no Ray cluster at {where} ({why}); check the address, that the cluster runs, and "
                "that its versions of Python and Ray are those of this machine"
            ) from error

    def _settle(self) -> None:
        """See how many experts there is room for, and make what they are trained by.

        Raises:
            ExpertBankError: for none.
        """
        from ray.util.queue import Queue

        nodes = [one["Resources"] for one in self._ray.nodes() if one["Alive"]]
        cores = [int(resources.get("CPU", 0)) for resources in nodes]
        self._width = sum(each // self._threads for each in cores)
        if self._width < 1:
            raise ExpertBankError(
                f"each expert shall have {self._threads} cores of one machine, and the largest of "
                f"the Ray cluster has {max(cores, default=0)}; give fewer threads (--threads)"
            )
        self._queue = Queue(actor_options={"num_cpus": 0})
        # A task that fails is begun again here, where its state is known.
        self._task = self._ray.remote(num_cpus=self._threads, max_retries=0)(run_there)

    @property
    def _losses(self) -> tuple[type[Exception], ...]:
        return self._ray.exceptions.RayError, ConnectionError

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Say of a cluster that is lost what to do.

        Raises:
            ExpertBankError: it is.
        """
        try:
            yield
        except self._losses as error:
            why = str(error).strip().partition("\n")[0]
            raise ExpertBankError(
                f"the Ray cluster was lost ({type(error).__name__}: {why}); look at it, then run "
                "the command again, with --resume to go on with what was begun"
            ) from error

    def start(self, job: AddJob, state: bytes | None) -> None:
        """See ``Crowd``."""
        number = next(self._begun)
        with self._reached():
            given = self._ray.put(job)
            reference = self._task.remote(
                given, state, number, self._queue, self._threads, self._device
            )
        self._running[reference] = number, job.entry.id

    def stop(self, job: str) -> None:
        """See ``Crowd``."""
        for reference in [one for one, (_, name) in self._running.items() if name == job]:
            del self._running[reference]
            with self._reached():
                self._ray.cancel(reference, force=True)
        self._told = deque(one for one in self._told if one.job != job)

    def wait(self) -> Happened:
        """See ``Crowd``."""
        while not self._told:
            with self._reached():
                # Before the queue, which is never silent while others train.
                ready, _ = self._ray.wait(list(self._running), timeout=0)
                heard = self._queue.get_nowait_batch(self._queue.qsize()) if ready else self._next()
            numbers = {number for number, _ in self._running.values()}
            self._told.extend(told for number, told in heard if number in numbers)
            if ready:
                self._told.append(self._ended(ready[0]))
        return self._told.popleft()

    def _next(self) -> list[tuple[int, Happened]]:
        from ray.util.queue import Empty

        try:
            return [self._queue.get(timeout=PATIENCE)]
        except Empty:
            return []

    def _ended(self, reference: Any) -> Happened:
        _, name = self._running.pop(reference)
        try:
            happened: Happened = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            why = str(error).strip().rsplit("\n", 1)[-1]
            return Happened(name, died=f"{type(error).__name__}: {why}")
        return happened


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep this process's answer to SIGTERM: Ray's would end it without a word."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if ours is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


_BACKBONES: dict[str | None, Backbones] = {}
"""Of this worker process, which Ray uses again."""


def run_there(
    job: AddJob, state: bytes | None, number: int, queue: Any, threads: int, device: str | None
) -> Happened:
    """A task's work, on a node of the cluster."""
    import torch

    torch.set_num_threads(threads)
    backbones = _BACKBONES.setdefault(device, Backbones(device))
    return backbones.result(job, state, lambda told: queue.put((number, told)))
