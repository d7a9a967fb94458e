"""OpenTelemetry spans of requests, where that package is there; without it, nothing.

A request's span is the child of the caller's (``traceparent``) and holds two: the time in the queue
and the passes. They are made when the request has ended, with the times it had.
"""

from __future__ import annotations

from typing import Any

from expertbank.http.seen import Seen, Sink


def spans(provider: Any = None) -> Sink | None:
    """A sink that makes spans; ``None`` where OpenTelemetry is not installed.

    Args:
        provider: a tracer provider; default the global one, which the standard ``OTEL_…``
            variables and ``opentelemetry-instrument`` set up.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.trace import SpanKind, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return None

    tracer = trace.get_tracer("expertbank", tracer_provider=provider)
    propagator = TraceContextTextMapPropagator()

    def sink(seen: Seen) -> None:
        carrier = {"traceparent": seen.traceparent} if seen.traceparent else {}
        ended = seen.started_at + round(seen.seconds * 1e9)
        span = tracer.start_span(
            f"{seen.method} {seen.route}",
            context=propagator.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=seen.started_at,
            attributes=_attributes(seen),
        )
        if seen.status >= 500:
            span.set_status(StatusCode.ERROR)
        inside = trace.set_span_in_context(span)
        if seen.rows:
            answered = ended - round(seen.inference_seconds * 1e9)
            queued = max(seen.started_at, answered - round(seen.queued_seconds * 1e9))
            tracer.start_span("queue", context=inside, start_time=queued).end(end_time=answered)
            tracer.start_span("inference", context=inside, start_time=answered).end(end_time=ended)
        span.end(end_time=ended)

    return sink


def _attributes(seen: Seen) -> dict[str, Any]:
    """What a request's span says, by OpenTelemetry's names where it has some."""
    found: dict[str, Any] = {
        "http.request.method": seen.method,
        "http.route": seen.route,
        "http.response.status_code": seen.status,
        "expertbank.request_id": seen.id,
        "expertbank.rows": seen.rows,
        "expertbank.unknown": seen.unknown,
        "expertbank.tasks": seen.tasks,
    }
    if seen.router_version is not None:
        found["expertbank.router_version"] = seen.router_version
    if seen.router_digest is not None:
        found["expertbank.router_digest"] = seen.router_digest
    if seen.reason is not None:
        found["error.type"] = seen.reason
    return found
