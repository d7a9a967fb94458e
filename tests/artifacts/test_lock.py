"""The bank's lock between real processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from expertbank.artifacts.lock import BankLock
from expertbank.errors import ExpertBankError, LockedError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def lock(tmp_path: Path) -> BankLock:
    return BankLock(tmp_path / "bank.lock", 0.05)


def held_by_a_child(lock: BankLock, how: Callable[[BankLock], object]) -> int:
    """A process that holds the lock until it is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            with how(BankLock(lock.path, 5)):  # type: ignore[attr-defined]
                os.write(writer, b"!")
                time.sleep(60)
        finally:
            os._exit(0)
    assert os.read(reader, 1) == b"!"
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_writers_share_it_and_keep_the_exclusive_holder_out(lock: BankLock) -> None:
    child = held_by_a_child(lock, BankLock.shared)
    try:
        with lock.shared():
            pass
        with pytest.raises(LockedError, match=r"other commands are writing.*run the command again"):
            lock.exclusive().__enter__()
        assert lock.state() == "shared"
    finally:
        kill(child)
    assert lock.state() == "free"


def test_the_exclusive_holder_keeps_everybody_out_until_it_is_killed(lock: BankLock) -> None:
    child = held_by_a_child(lock, BankLock.exclusive)
    try:
        with pytest.raises(LockedError, match="gc or db restore"):
            lock.shared().__enter__()
        assert lock.state() == "exclusive"
    finally:
        kill(child)
    with lock.exclusive():
        assert lock.state() == "exclusive"


def test_who_waits_gets_it_when_the_holder_is_done(lock: BankLock) -> None:
    order: list[str] = []
    holding = threading.Event()

    def hold() -> None:
        with BankLock(lock.path, 5).shared():
            holding.set()
            time.sleep(0.1)
            order.append("writer")

    writer = threading.Thread(target=hold)
    writer.start()
    holding.wait()
    with BankLock(lock.path, 20).exclusive():
        order.append("collector")
    writer.join()
    assert order == ["writer", "collector"]


def test_a_folder_that_cannot_hold_the_lock_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExpertBankError, match="make the bank's folder writable"):
        BankLock(tmp_path / "missing" / "bank.lock", 0).shared().__enter__()


def test_asking_for_its_state_makes_no_file(lock: BankLock) -> None:
    assert lock.state() == "free"
    assert not lock.path.exists()
