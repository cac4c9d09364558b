"""Ports that are open, refusing or silent."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pytest_pveha.sim.servers.guests import GuestPort
from pytest_pveha.sim.servers.ports import State, TcpPort, UdpPort


@pytest.fixture
def port() -> Iterator[TcpPort]:
    """An open port, closed at the end."""
    port = TcpPort()
    yield port
    port.close()


def knock(address: tuple[str, int], patience: float = 0.05, *, abort: bool = True) -> str:
    """What a connect meets: open, refused or silent. Ends as the product's probes do, with a reset."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(abort), 0))
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            if not select.select([], [sock], [], patience)[1]:
                return "silent"
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return {0: "open", errno.ECONNREFUSED: "refused"}[code]


def conversation(port: TcpPort) -> tuple[socket.socket, socket.socket]:
    """A client and the accepted end of its connection."""
    client = socket.create_connection(port.address, timeout=5)
    server = port.accept()
    assert server is not None
    return client, server


def test_every_state_is_met_as_such(port: TcpPort) -> None:
    """A port is open, refusing and silent in any order, under one number."""
    number = port.port
    assert knock(port.address) == "open"
    port.refuse()
    assert knock(port.address) == "refused"
    port.silence()
    assert knock(port.address) == "silent"
    port.revive()
    assert knock(port.address) == "open"
    port.silence()
    port.refuse()
    assert knock(port.address) == "refused"
    port.revive()
    assert knock(port.address) == "open"
    assert port.port == number


def test_a_dead_machine_hears_nothing_on_its_connections(port: TcpPort) -> None:
    """What is sent to a silenced connection is neither answered nor reset."""
    client, server = conversation(port)
    with client, server:
        port.silence()
        client.sendall(b"hello?")
        assert not select.select([client, server], [], [], 0.05)[0]


def test_after_a_boot_old_connections_are_reset(port: TcpPort) -> None:
    """Reviving resets what was accepted before the death, also under a thread that reads it."""
    client, server = conversation(port)
    with client, server:
        reader = threading.Thread(target=_read, args=(server,), daemon=True)
        reader.start()
        port.silence()
        port.revive()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        reader.join(5)
        assert not reader.is_alive()
        fresh, answering = conversation(port)
        with fresh, answering:
            fresh.sendall(b"x")
            assert answering.recv(1) == b"x"


def _read(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.recv(1)


def test_a_connection_accepted_while_silent_is_deaf(port: TcpPort) -> None:
    """A connection that waited in the backlog at the death hears nothing once accepted."""
    with socket.create_connection(port.address, timeout=5) as client:
        port.silence()
        server = port.accept()
        assert server is not None
        with server:
            client.sendall(b"x")
            assert not select.select([server], [], [], 0.05)[0]


def test_accept_lives_through_the_states_and_ends_with_the_port(port: TcpPort) -> None:
    """One accepting thread serves before and after a refusal, and returns when the port closes."""
    served: list[bytes] = []

    def serve() -> None:
        while (sock := port.accept()) is not None:
            with sock:
                served.append(sock.recv(1))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    for word in (b"a", b"b"):
        with socket.create_connection(port.address, timeout=5) as client:
            client.sendall(word)
            assert client.recv(1) == b""
        port.refuse()
        port.revive()
    port.close()
    thread.join(5)
    assert not thread.is_alive()
    assert served == [b"a", b"b"]


def test_a_guest_answers_without_anybody_accepting() -> None:
    """A thousand probes of a guest's port all connect although nothing accepts."""
    guest = GuestPort(101)
    try:
        assert {knock(guest.address) for _ in range(1000)} == {"open"}
        # connections ended in good order do queue, and are cleared away
        assert {knock(guest.address, patience=20, abort=False) for _ in range(1000)} == {"open"}
        guest.silence()
        assert knock(guest.address) == "silent"
    finally:
        guest.close()


def test_a_port_may_start_silent() -> None:
    """A port of a machine without power is silent from the beginning."""
    guest = GuestPort(101, state=State.SILENT)
    assert knock(guest.address) == "silent"
    guest.close()


def test_a_silent_udp_port_loses_datagrams() -> None:
    """Datagrams sent to a silent port are lost for good; later ones are heard."""
    port = UdpPort()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"unread", port.address)
        port.silence()
        client.sendto(b"lost", port.address)
        port.revive()
        client.sendto(b"heard", port.address)
        assert port.sock.recv(100) == b"heard"
    port.close()


UNPRIVILEGED = """
import socket
from pytest_pveha.sim.servers.ports import TcpPort, UdpPort
tcp, udp = TcpPort(), UdpPort()
client = socket.create_connection(tcp.address, timeout=5)
for port in (tcp, udp):
    port.silence()
    port.revive()
print("silenced")
"""


def test_silence_needs_no_privilege() -> None:
    """Whoever runs the site, root or not, can let a machine fall silent and wake."""
    without = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed, so root cannot lay down its capabilities")
        without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    child = [*without, sys.executable, "-c", UNPRIVILEGED]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(child, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "silenced\n"), done.stderr
