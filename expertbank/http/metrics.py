"""Prometheus metrics: what the core and the requests told, and ``GET /metrics``.

The registry is one's own: nothing of other libraries gets in, and two servers in one process do
not share counters. Labels have few values whatever callers send: routes are those declared, reasons
those of problems, tasks and router versions are bounded here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from threading import Lock

from fastapi import APIRouter, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from expertbank.http.problems import DEFECT, REASONS
from expertbank.http.seen import CANCELLED, Seen
from expertbank.serving.observer import Observer

SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOKENS = (16, 64, 256, 1024, 4096, 16384, 65536)
"""Upper ends of the histograms' buckets."""

MOST_TASKS = 1_000
"""Tasks that have a series of their own under one router; a bank may hold ten thousand."""
OTHER_TASKS = "(other)"
MOST_ROUTERS = 4
"""Router versions that keep their series; older ones go as new ones come."""
NO_ROUTER = "none"
"""Label of answers of a state without a router, where tasks are named."""


class Metrics(Observer):
    """Counts what happens; an observer of the core and a sink of ended requests.

    Args:
        registry: where the metrics are kept; default one of its own.
        process: add the process's memory, processor time and open files.
    """

    def __init__(self, registry: CollectorRegistry | None = None, process: bool = True) -> None:
        self.registry = registry or CollectorRegistry()
        if process:
            ProcessCollector(registry=self.registry)
        self._requests = self._counter(
            "requests", "HTTP requests that ended, by route and status.", "route", "status"
        )
        self._failures = self._counter(
            "failures", "HTTP requests that were not answered whole, by reason.", "reason"
        )
        self._seconds = self._histogram(
            "request_seconds", "Seconds from a request to the end of its answer.", SECONDS, "route"
        )
        self._queue = self._histogram(
            "queue_seconds", "Seconds until the first row of a request was taken up.", SECONDS
        )
        self._inference = self._histogram(
            "inference_seconds", "Seconds of the passes that answered a request.", SECONDS
        )
        self._pass = self._histogram("batch_seconds", "Seconds of one pass.", SECONDS)
        self._rows = self._histogram("batch_rows", "Rows of one pass.", ROWS)
        self._tokens = self._histogram(
            "batch_tokens", "Tokens of one pass, without padding.", TOKENS
        )
        self._asked_rows = self._counter("queued_rows", "Rows that were taken into the queue.")
        self._asked_tokens = self._counter(
            "queued_tokens", "Tokens that were taken into the queue."
        )
        self._answered = self._counter(
            "answers", "Rows answered, by task and by the router in use.", "task", "router"
        )
        self._unknown = self._counter(
            "unknown", "Rows answered that are like no task.", "task", "router"
        )
        self._reloads = self._counter("reloads", "Reloads of bank or bundle.", "result")
        self._depth = self._gauge("queue_rows", "Rows that wait for a pass now.")
        self._router = self._gauge(
            "router_version", "Version of the router in use at the last answer; 0 before one."
        )
        self._bounded = _Bounded(self._forget)
        for result in ("ok", "failed"):  # A rate needs a first value to rise from.
            self._reloads.labels(result)
        for reason in (*REASONS, CANCELLED):
            self._failures.labels(_label(reason))

    # -- what the core tells -------------------------------------------------------------------

    def queued(self, rows: int, tokens: int) -> None:
        """Rows were taken into the queue."""
        self._asked_rows.inc(rows)
        self._asked_tokens.inc(tokens)

    def batch(self, rows: int, tokens: int, seconds: float) -> None:
        """A pass ended."""
        self._rows.observe(rows)
        self._tokens.observe(tokens)
        self._pass.observe(seconds)

    def answered(self, task: str, unknown: bool | None, router_version: int | None) -> None:
        """A row was answered."""
        labels = self._bounded.labels(task, router_version)
        self._answered.labels(*labels).inc()
        if unknown:
            self._unknown.labels(*labels).inc()
        if router_version is not None:
            self._router.set(router_version)

    def finished(self, rows: int, queued_seconds: float, inference_seconds: float) -> None:
        """A request was answered."""
        self._queue.observe(queued_seconds)
        self._inference.observe(inference_seconds)

    def reloaded(self, ok: bool) -> None:
        """Bank or bundle was loaded again, or could not be."""
        self._reloads.labels("ok" if ok else "failed").inc()

    def depth(self, rows: int) -> None:
        """So many rows wait now."""
        self._depth.set(rows)

    # -- what requests tell --------------------------------------------------------------------

    def request(self, seen: Seen) -> None:
        """A request ended."""
        self._requests.labels(seen.route, str(seen.status)).inc()
        self._seconds.labels(seen.route).observe(seen.seconds)
        # Once a request: the core may try parts of one again, and knows nothing of those refused.
        if seen.reason is not None:
            self._failures.labels(_label(seen.reason)).inc()

    # -- what is read --------------------------------------------------------------------------

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(_Told(self.registry))

    def _forget(self, labels: tuple[str, str]) -> None:
        for metric in (self._answered, self._unknown):
            metric.remove_by_labels({"task": labels[0], "router": labels[1]})

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"expertbank_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str) -> Gauge:
        return Gauge(f"expertbank_{name}", about, registry=self.registry)

    def _histogram(
        self, name: str, about: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"expertbank_{name}", about, labels, registry=self.registry, buckets=buckets
        )


class _Told(Collector):
    """A registry without the times at which its series were made: nobody asks for them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Every metric of the registry."""
        for metric in self._registry.collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


def _label(reason: str) -> str:
    """A reason as it is counted."""
    return "internal" if reason == DEFECT else reason.replace("-", "_")


class _Bounded:
    """Which tasks and routers have a series, so that their number stays within bounds.

    Args:
        forget: told of labels whose series goes.
    """

    def __init__(self, forget: Callable[[tuple[str, str]], None]) -> None:
        self._forget = forget
        self._tasks: OrderedDict[str, set[str]] = OrderedDict()
        self._lock = Lock()

    def labels(self, task: str, router_version: int | None) -> tuple[str, str]:
        """The labels of an answer."""
        router = NO_ROUTER if router_version is None else str(router_version)
        with self._lock:
            tasks = self._tasks.setdefault(router, set())
            self._tasks.move_to_end(router)
            if task not in tasks:
                task = task if len(tasks) < MOST_TASKS else OTHER_TASKS
                tasks.add(task)
            while len(self._tasks) > MOST_ROUTERS + (NO_ROUTER in self._tasks):
                oldest = next(name for name in self._tasks if name != NO_ROUTER)
                for known in self._tasks.pop(oldest):
                    self._forget((known, oldest))
        return task, router


def router(metrics: Metrics) -> APIRouter:
    """``GET /metrics``."""
    routes = APIRouter()

    @routes.get("/metrics", include_in_schema=False)
    def read() -> Response:
        """Metrics in Prometheus's text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
