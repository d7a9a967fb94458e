"""What happens when something breaks: who is told, who is spared, and what mends itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest
from serving_bank import GROUP, ask

from expertbank import Bank
from expertbank.errors import IntegrityError
from expertbank.serving.errors import NotReadyError
from expertbank.serving.from_bank import BankSource
from expertbank.serving.limits import ServeConfig
from expertbank.serving.observer import Observer
from expertbank.serving.server import Server

SOON = ServeConfig(reload="off", reload_seconds=0.05)


def soon(holds: Callable[[], bool]) -> None:
    end = monotonic() + 30
    while not holds():
        assert monotonic() < end
        sleep(0.02)


def expert_file(home: Path, bank: Bank, reference: str) -> Path:
    digest = bank.registry.expert(reference).digest
    (found,) = [path for path in home.rglob(f"*{digest[8:]}*") if path.is_file()]
    return found


def damage(path: Path) -> bytes:
    """Change a byte in the middle; returns what was there."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[: len(data) // 2] + b"\x7f" + data[len(data) // 2 + 1 :])
    return data


class Deadly(Observer):
    """Ends the thread that answers, at its first pass."""

    def __init__(self) -> None:
        self.deaths = 1

    def batch(self, rows: int, tokens: int, seconds: float) -> None:
        if self.deaths:
            self.deaths -= 1
            raise SystemExit("killed")


def test_a_worker_that_dies_is_seen_its_requests_fail_and_another_takes_its_place(
    bank: Bank,
) -> None:
    server = Server(BankSource(bank), ServeConfig(reload="off", reload_seconds=1), Deadly())
    server.start()
    server.wait_ready(60)
    try:
        future = server.submit(ask(5))
        with pytest.raises(NotReadyError, match="worker died of SystemExit: killed"):
            future.result(30)
        assert server.state == "broken"
        assert server.why is not None
        assert "killed" in server.why
        with pytest.raises(NotReadyError, match="killed"):
            server.submit(ask())
        soon(lambda: server.state == "ready")
        assert server.why is None
        assert len(server.submit(ask(5)).result(30).predictions) == 5
    finally:
        server.stop()


def test_a_damaged_expert_fails_only_who_needs_it_and_is_seen_until_it_is_mended(
    home: Path, bank: Bank
) -> None:
    config = ServeConfig(reload="off", reload_seconds=0.05, max_wait_ms=500)
    server = Server(BankSource(bank), config)
    server.start()
    server.wait_ready(60)
    try:
        path = expert_file(home / "bank", bank, "mood")
        server.current.predictor.model.pool.keep_only(())
        whole = damage(path)
        # Both in one pass: the group's second expert is loaded when its first has answered.
        hurt, spared = server.submit(ask(3, GROUP)), server.submit(ask(3, "laws"))
        with pytest.raises(IntegrityError):
            hurt.result(30)
        assert {one.task for one in spared.result(30).predictions} == {"laws"}
        assert server.state == "broken"
        assert server.why is not None
        assert server.submit(ask(2, "films")).result(30).predictions[0].task == "films"
        path.write_bytes(whole)
        soon(lambda: server.state == "ready")
        assert len(server.submit(ask(3, GROUP)).result(30).predictions) == 3
    finally:
        server.stop()


def test_a_damaged_older_version_is_told_to_who_asks_for_it(home: Path, bank: Bank) -> None:
    server = Server(BankSource(bank), SOON)
    server.start()
    server.wait_ready(60)
    try:
        whole = damage(path := expert_file(home / "bank", bank, "laws@1"))
        with pytest.raises(IntegrityError):
            server.submit(ask(1, "laws", version=1))
        assert server.state == "broken"
        assert server.submit(ask(1, "laws")).result(30).predictions[0].expert == "laws@2"
        path.write_bytes(whole)
        soon(lambda: server.state == "ready")
    finally:
        server.stop()


def test_a_bank_with_a_damaged_expert_is_not_served_until_it_is_mended(
    home: Path, bank: Bank
) -> None:
    whole = damage(path := expert_file(home / "bank", bank, "films"))
    server = Server(BankSource(bank), SOON)
    server.start()
    try:
        with pytest.raises(IntegrityError):
            server.wait_ready(60)
        assert server.state == "broken"
        with pytest.raises(NotReadyError):
            _ = server.current
        path.write_bytes(whole)
        soon(lambda: server.state == "ready")
    finally:
        server.stop()


def test_a_server_that_was_not_started_is_not_ready(bank: Bank) -> None:
    server = Server(BankSource(bank))
    assert server.state == "starting"
    with pytest.raises(NotReadyError):
        server.submit(ask())
    with pytest.raises(NotReadyError, match="nothing is loaded"):
        server.wait_ready(0.01)
    server.stop()
