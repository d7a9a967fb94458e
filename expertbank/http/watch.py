"""All that looks at the server from outside, put together once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TextIO

from expertbank.http.lately import Lately
from expertbank.http.logs import RequestLog
from expertbank.http.metrics import Metrics
from expertbank.http.seen import Sink
from expertbank.http.tracing import spans


@dataclass(frozen=True)
class Watch:
    """What requests are told to when they have ended.

    Attributes:
        metrics: Prometheus's; also what observes the core.
        lately: the last minute, for the page.
        log: a line a request; ``None`` for none.
        spans: OpenTelemetry's, where it is installed.
        texts: whether lines hold what was asked.
    """

    metrics: Metrics = field(default_factory=Metrics)
    lately: Lately = field(default_factory=Lately)
    log: RequestLog | None = None
    spans: Sink | None = None
    texts: bool = False

    @classmethod
    def writing_to(cls, stream: TextIO, texts: bool = False) -> Watch:
        """The usual one: metrics, lines to ``stream``, spans where there can be some."""
        return cls(log=RequestLog(stream), spans=spans(), texts=texts)

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """Where the record of a request goes."""
        found = (self.metrics.request, self.lately, self.log, self.spans)
        return tuple(sink for sink in found if sink is not None)
