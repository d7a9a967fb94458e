"""What is said where nothing could be served yet, and where something is served on."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from expertbank.errors import NotFoundError
from expertbank.serving.errors import NotReadyError
from expertbank.serving.faults import Faults
from expertbank.serving.keeper import Keeper
from expertbank.serving.limits import ServeConfig
from expertbank.serving.observer import Observer
from expertbank.serving.server import Server


class Empty:
    """A bank without experts."""

    def load(self, earlier: Any) -> Any:
        raise NotFoundError("the bank has no expert yet")

    def changed(self, served: Any) -> bool:
        return True


def test_a_first_state_that_cannot_be_loaded_is_not_called_a_newer_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keeper = Keeper(Empty(), ServeConfig(), Observer(), Faults(), lambda state: None)
    with caplog.at_level(logging.ERROR, "expertbank.serving"), pytest.raises(NotFoundError):
        keeper.look()
    assert "what is to be served could not be loaded: the bank has no expert yet" in caplog.text


class Slow:
    """A bank that takes long to load, and then cannot be."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def load(self, earlier: Any) -> Any:
        self.begun.set()
        self.released.wait(60)
        raise NotFoundError("the bank has no expert yet")

    def changed(self, served: Any) -> bool:
        return True


def test_who_is_in_a_hurry_does_not_wait_for_a_first_state_and_hears_of_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Slow()
    server = Server(source)
    server.start()
    assert source.begun.wait(30)
    server.hurry()
    server.stop()
    assert not server.loaded
    with pytest.raises(NotReadyError, match="was stopped"):
        server.wait_ready()
    source.released.set()
    server._keeper._thread.join(30)
    assert not server.loaded
    assert caplog.text == ""
