"""Connections that a deadline may break at any moment."""

import socket
from collections.abc import Iterator

import pytest

from pytest_pveha.wire.tcp import Address, Hold


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_call_severed_before_it_connects_gets_no_connection(listener: socket.socket) -> None:
    """A deadline that passes before the connect leaves no half-open socket that looks connected."""
    hold = Hold()
    hold.sever()
    with pytest.raises(OSError, match=r"deadline passed|reset|aborted|pipe"):
        Address("127.0.0.1", listener.getsockname()[1]).connect(hold)


def test_a_call_in_time_is_connected(listener: socket.socket) -> None:
    """Otherwise the connection stands, and falls with the call."""
    hold = Hold()
    with Address("127.0.0.1", listener.getsockname()[1]).connect(hold) as sock:
        assert sock.getpeername() == listener.getsockname()
        hold.sever()
        assert sock.recv(1) == b""
