"""How long a connection may take, and an engine behind the router."""

from __future__ import annotations

from dataclasses import dataclass

from expertbank.settings import check, setting


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """How `serve` treats connections."""

    read_seconds: float = setting(
        20.0,
        "Seconds within which a request's headers, and then its body, must have arrived, and for "
        "which a reader may take nothing of an answer.",
        above=0,
        most=3600,
    )
    keep_alive_seconds: int = setting(
        30, "Seconds that an idle connection stays open.", least=1, most=3600
    )
    max_header_bytes: int = setting(
        32 * 2**10,
        "KiB of headers, the request's first line included; more is refused with 431.",
        option="max_header_size",
        unit=2**10,
        least=2**10,
        most=2**20,
    )

    def __post_init__(self) -> None:
        check(self)


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
