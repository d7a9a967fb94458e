"""Where a server listens, and who can reach it there."""

from __future__ import annotations

import socket

import pytest

from expertbank.errors import InputError
from expertbank.http.running import address_of, bind, is_loopback


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("example.org", False),
    ],
)
def test_only_loopback_is_ones_own(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_a_free_port_is_taken_and_told() -> None:
    with bind("127.0.0.1", 0) as made:
        assert address_of(made) == f"http://127.0.0.1:{made.getsockname()[1]}"
        # What asyncio looks at before it sends small parts at once.
        assert made.proto == socket.IPPROTO_TCP
        with pytest.raises(InputError, match="in use"):
            bind("127.0.0.1", made.getsockname()[1])
