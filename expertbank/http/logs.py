"""One line of JSON a request: what was asked of the server and how it went, never what it said.

Texts stand in a line only where the server was started with ``--log-texts``.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from threading import Lock
from typing import Any, TextIO

from expertbank.http.seen import Seen


def line(seen: Seen) -> dict[str, Any]:
    """The fields of a request's line; seconds are rounded to microseconds."""
    at = datetime.fromtimestamp(seen.started_at / 1e9, timezone.utc)
    fields: dict[str, Any] = {
        "at": at.isoformat(timespec="milliseconds"),
        "id": seen.id,
        "method": seen.method,
        "route": seen.route,
        "status": seen.status,
        "rows": seen.rows,
        "queued_seconds": round(seen.queued_seconds, 6),
        "inference_seconds": round(seen.inference_seconds, 6),
        "seconds": round(seen.seconds, 6),
        "tasks": list(seen.tasks),
        "unknown": seen.unknown,
        "router": seen.router_version,
        "router_digest": seen.router_digest,
    }
    if seen.reason is not None:
        fields["reason"] = seen.reason
    if seen.texts:
        fields["texts"] = list(seen.texts)
    return fields


class RequestLog:
    """Writes a line for every request to a stream, whole lines only.

    A stream that takes no more (a full disk, a reader that has gone) costs lines, not answers.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = Lock()
        self.lost = 0
        """Lines that could not be written."""

    def __call__(self, seen: Seen) -> None:
        """Write a request's line."""
        text = json.dumps(line(seen), separators=(",", ":")) + "\n"
        with self._lock:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: the stream is closed.
                self.lost += 1
