"""How long an engine behind the router may take."""

from __future__ import annotations

from dataclasses import dataclass

from expertbank.settings import check, setting


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How `serve --engine` waits for the engine."""

    engine_connect_seconds: float = setting(
        5.0, "Seconds within which the engine must take a connection.", above=0, most=600
    )
    engine_seconds: float = setting(
        300.0,
        "Longest silence of the engine: before its answer begins, and between parts of one that "
        "is streamed.",
        above=0,
        most=86400,
    )

    def __post_init__(self) -> None:
        check(self)
