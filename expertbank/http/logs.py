"""One line of JSON a request: what was asked of the server and how it went, never what it said.

Texts stand in a line only where the server was started with ``--log-texts``.
"""

from __future__ import annotations

import atexit
import json
from contextlib import suppress
from datetime import datetime, timezone
from queue import Full, Queue
from threading import Thread
from typing import Any, TextIO

from expertbank.http.seen import Seen

MOST = 10_000
"""Lines that wait to be written."""
CLOSE_SECONDS = 2.0
"""How long the last lines may take."""


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
        if any(map(any, seen.parts)):  # which texts belong together
            fields["parts"] = [list(map(int, part)) for part in seen.parts]
    return fields


class RequestLog:
    """Writes a line for every request to a stream, whole lines only, on a thread of its own.

    A stream that takes no more (a full disk, a reader that has gone or sleeps) costs lines, not
    answers: no request waits for it.

    Args:
        stream: where to.
        most: lines that may wait to be written; of more, the newest are lost.
    """

    def __init__(self, stream: TextIO, most: int = MOST) -> None:
        self.lost = 0
        """Lines that could not be written."""
        self._stream = stream
        self._waiting: Queue[Seen | None] = Queue(most)
        self._thread = Thread(target=self._write, name="expertbank-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __call__(self, seen: Seen) -> None:
        """Take a request's line; returns at once."""
        try:
            self._waiting.put_nowait(seen)
        except Full:
            self.lost += 1

    def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits, for so long at most. Repeating it is harmless."""
        if self._thread.is_alive():
            with suppress(Full):
                self._waiting.put(None, timeout=seconds)
            self._thread.join(seconds)
        atexit.unregister(self.close)

    def _write(self) -> None:
        while (seen := self._waiting.get()) is not None:
            try:
                self._stream.write(json.dumps(line(seen), separators=(",", ":")) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # ValueError: the stream is closed.
                self.lost += 1
