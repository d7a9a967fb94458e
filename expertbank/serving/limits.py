"""What a server may be asked for, and how much of it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from expertbank.errors import InputError
from expertbank.serving.errors import TooLargeError
from expertbank.settings import check, setting


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """How a server batches, bounds and reloads."""

    max_batch_rows: int = setting(
        32, "Rows a pass: more fill a GPU better, fewer answer sooner.", least=1, most=4096
    )
    max_batch_tokens: int = setting(
        16_384,
        "Tokens a pass, padding included. A row that has more by itself gets a pass of its own.",
        least=8,
        most=1 << 24,
    )
    max_wait_ms: float = setting(
        0.0,
        "How long the oldest row waits for others to share its pass while the worker is idle. "
        "With 0 a pass begins at once, and what arrives while it runs shares the next.",
        least=0,
        most=10_000,
    )
    queue_rows: int = setting(
        1024,
        "Rows that may wait; a request that does not fit is refused with a time to come again.",
        least=1,
        most=1 << 20,
    )
    max_rows: int = setting(512, "Rows of one request.", least=1, most=1 << 20)
    max_choices: int = setting(
        128,
        "Choices of one row: all of them are read in one pass, whatever the other bounds are.",
        least=2,
        most=1 << 16,
    )
    max_body_bytes: int = setting(
        4_000_000,
        "Megabytes of one request's body.",
        option="max_body_mb",
        least=1_000_000,
        most=1_000_000_000,
        unit=1_000_000,
    )
    max_bodies: int = setting(
        64,
        "Bodies of that size whose memory all requests under way may take together; what finds "
        "no room is refused with a time to come again.",
        least=1,
        most=1 << 20,
    )
    deadline_ms: float = setting(
        30_000.0,
        "Milliseconds after which a request that names no deadline is given up.",
        above=0,
        most=3_600_000,
    )
    reload: Literal["auto", "off"] = setting(
        "auto",
        "auto takes a new router or expert over by itself, off only when told to.",
    )
    reload_seconds: float = setting(
        2.0, "Seconds between two looks for something new.", least=0.05, most=86_400
    )
    second_opinion: bool = setting(
        False,
        "Where the two best tasks lie close, ask both experts; such rows take two passes.",
    )
    drain_seconds: float = setting(
        30.0,
        "Seconds that requests under way are given to end when the server stops.",
        least=0,
        most=3_600,
    )

    def allow(self, rows: int) -> None:
        """Refuse more rows than one request may bring.

        Raises:
            TooLargeError: that is so.
        """
        if rows > self.max_rows:
            raise TooLargeError(f"the request brings {rows} rows, more than {self.max_rows}")

    def __post_init__(self) -> None:
        check(self)
        if self.max_rows > self.queue_rows:
            raise InputError(
                f"max_rows ({self.max_rows}) cannot exceed queue_rows ({self.queue_rows}): "
                "such a request could never be queued"
            )
