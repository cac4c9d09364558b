"""Cipher suite 0: found where it opens, cleared only where the BMC itself refuses."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import ProtocolError, Unreachable
from pytest_pveha.wire.ipmi import IpmiBmc
from pytest_pveha.wire.ipmi_cipher import cipher_zero_opens
from tests.sim.bmc_bench import USER, bmc

AMPLE = 60.0


def opens(port: int, seconds: float = AMPLE, user: str = USER) -> bool:
    return cipher_zero_opens("127.0.0.1", port, user, LiveClock(), LiveClock().deadline(seconds))


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A UDP port that gives these answers, one for each datagram, the last one for ever."""
    left = list(answers)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(AMPLE)

        def serve() -> None:
            while True:
                data, peer = sock.recvfrom(4096)
                if data == b"end":
                    return
                sock.sendto(left.pop(0) if len(left) > 1 else left[0], peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as teller:
                teller.sendto(b"end", sock.getsockname())
            thread.join()


@pytest.mark.parametrize("open_", [True, False])
def test_the_hole_is_found_and_its_absence_too(open_: bool) -> None:
    """A BMC with suite 0 is found open by its user's name alone; one without refuses; neither keeps a session."""
    with bmc(cipher_zero=open_) as bench:
        assert opens(bench.port) is open_
        client = IpmiBmc("127.0.0.1", bench.port, USER, lambda: "a wrong password", LiveClock())
        try:
            assert client.cipher_zero(LiveClock().deadline(AMPLE)) is open_
        finally:
            client.close()
        assert opens(bench.port, user="nobody") is False
        deadline = LiveClock().deadline(AMPLE)
        while bench.server.sessions():
            assert not deadline.expired()
        assert bench.machine.commands == []


@pytest.mark.skipif(shutil.which("ipmitool") is None, reason="ipmitool is not installed")
@pytest.mark.parametrize("open_", [True, False])
def test_ipmitool_agrees(open_: bool) -> None:
    """ipmitool gets in by suite 0 with a wrong password exactly where we say so."""
    with bmc(cipher_zero=open_) as bench:
        words = ["ipmitool", "-I", "lanplus", "-C", "0", "-H", "127.0.0.1", "-p", str(bench.port), "-U", USER]
        done = subprocess.run(
            [*words, "-P", "wrong", "-L", "USER", "-N", "1", "-R", "1", "chassis", "power", "status"],
            capture_output=True,
            timeout=AMPLE,
            check=False,
        )
        assert (done.returncode == 0) is opens(bench.port) is open_


def test_silence_is_no_all_clear() -> None:
    """A port where nobody answers is Unreachable when the deadline comes, never "closed"."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        clock = LiveClock()
        deadline = clock.deadline(0.3)
        with pytest.raises(Unreachable, match="gave no answer before the deadline"):
            cipher_zero_opens("127.0.0.1", sock.getsockname()[1], USER, clock, deadline)
        assert deadline.expired()


@pytest.mark.parametrize("answer", [b"", b"x", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x06\x00\xff\x07" + b"\x00" * 30])
def test_what_is_no_ipmi(answer: bytes) -> None:
    """Another service on the port is a ProtocolError, or nobody where it sends an empty datagram."""
    with answering(answer) as port, pytest.raises((ProtocolError, Unreachable)):
        opens(port, 1.0)


def test_another_suite_than_proposed_is_not_the_hole() -> None:
    """A BMC that answers the proposal of suite 0 with suite 3 has not opened suite 0."""
    kinds = b"".join(bytes((kind, 0, 0, 8, 1, 0, 0, 0)) for kind in range(3))
    payload = bytes((1, 0, 4, 0)) + b"abcd" + b"efgh" + kinds
    packet = b"\x06\x00\xff\x07" + bytes((6, 0x11)) + bytes(8) + len(payload).to_bytes(2, "little") + payload
    with answering(packet) as port:
        assert opens(port) is False
