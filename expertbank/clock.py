"""The present time, as it is written down."""

from __future__ import annotations

from datetime import datetime, timezone


def now() -> str:
    """UTC, ISO-8601, always with microseconds: such texts sort as the moments do."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
