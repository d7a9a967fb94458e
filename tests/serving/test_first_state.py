"""What is said where nothing could be served yet, and where something is served on."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from expertbank.errors import NotFoundError
from expertbank.serving.faults import Faults
from expertbank.serving.keeper import Keeper
from expertbank.serving.limits import ServeConfig
from expertbank.serving.observer import Observer


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
