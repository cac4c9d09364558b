"""Whether a BMC lets anybody in: cipher suite 0 has no password, no integrity and no encryption.

A whole login is tried with it, for many a BMC takes the first message and refuses the second. Nothing is asked or done
in the session but to close it. Source: IPMI 2.0 rev. 1.1, tables 13-8 to 13-15 (session set-up), 22-20 (suite 0).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from pytest_pveha.clock import Clock, Deadline
from pytest_pveha.errors import ProtocolError, TimedOut, Unreachable
from pytest_pveha.wire.names import ways

AGAIN = 1.0
"""Seconds after which an unanswered datagram is sent again; decides nothing, the deadline does."""

_RMCP = b"\x06\x00\xff\x07"
_RMCPP = 0x06
_OPEN, _RAKP1, _RAKP3 = 0x10, 0x12, 0x14
_USER = 2


def cipher_zero_opens(address: str, port: int, user: str, clock: Clock, deadline: Deadline) -> bool:
    """Whether ``user`` could log in with suite 0, and so without a password.

    False is said only by the BMC itself, which refused.

    Raises:
        Unreachable: no answer by the deadline.
        ProtocolError: the answer is not RMCP+.
    """
    who = f"BMC {address}:{port}"
    try:
        family, to = ways(address, port, patience=deadline.remaining())[0]
        sock = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise Unreachable(f"{who}: the address cannot be used ({error.strerror}); check it in the inventory") from None
    with sock:

        def abort() -> None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        try:
            with clock.guard(deadline, abort, peers=[port]):
                sock.connect(to)
                sock.settimeout(AGAIN)
                return _Attempt(sock, who, deadline).succeeds(user.encode())
        except TimedOut:
            raise Unreachable(
                f"{who} gave no answer before the deadline: it has no power or network, or IPMI over LAN is off"
            ) from None
        except OSError as error:
            raise Unreachable(f"{who}: {error.strerror or error}") from None


class _Attempt:
    """One login with suite 0."""

    def __init__(self, sock: socket.socket, who: str, deadline: Deadline) -> None:
        self._sock = sock
        self._who = who
        self._deadline = deadline
        self._ours = os.urandom(4)

    def succeeds(self, user: bytes) -> bool:
        """Whether the BMC says that the session stands."""
        algorithms = b"".join(bytes((kind, 0, 0, 8, 0, 0, 0, 0)) for kind in range(3))
        opened = self._exchange(_OPEN, bytes((1, _USER, 0, 0)) + self._ours + algorithms)
        # a BMC may answer with another suite than the one proposed: then suite 0 is not what was opened
        if opened[1] or len(opened) < 36 or any(opened[16 + 8 * kind] & 0x3F for kind in range(3)):
            return False
        theirs = opened[8:12]
        head = bytes((2, 0, 0, 0)) + theirs + os.urandom(16)
        named = self._exchange(_RAKP1, head + bytes((0x10 | _USER, 0, 0, len(user))) + user)
        if named[1]:
            return False
        stands = self._exchange(_RAKP3, bytes((3, 0, 0, 0)) + theirs)
        if stands[1]:
            return False
        self._close(theirs)
        return True

    def _exchange(self, kind: int, payload: bytes) -> bytes:
        """The answer's payload; the request is sent again until one comes or the call is aborted."""
        request = _RMCP + struct.pack("<BBIIH", _RMCPP, kind, 0, 0, len(payload)) + payload
        while True:
            self._sock.send(request)
            with contextlib.suppress(TimeoutError):
                answer = self._sock.recv(4096)
                if not answer:  # shut down by the guard
                    raise ConnectionAbortedError("aborted")
                if found := self._answer(answer, kind, payload[0]):
                    return found
            if self._deadline.expired():
                raise TimeoutError("no answer before the deadline")

    def _answer(self, datagram: bytes, kind: int, tag: int) -> bytes | None:
        """The payload of the answer to that message; None: it is the answer to another."""
        if datagram[:4] != _RMCP or len(datagram) < 18 or datagram[4] != _RMCPP:
            raise ProtocolError(f"{self._who} gave an answer that is not RMCP+ ({datagram[:8].hex()})")
        payload = datagram[16:]
        return payload if datagram[5] & 0x3F == kind + 1 and payload[0] == tag else None

    def _close(self, theirs: bytes) -> None:
        """The session is closed at the BMC, if it listens: it has few."""
        head = bytes((0x20, 0x06 << 2))
        body = bytes((0x81, 0x04, 0x3C)) + theirs
        message = head + bytes((-sum(head) & 0xFF,)) + body + bytes((-sum(body) & 0xFF,))
        (session,) = struct.unpack("<I", theirs)
        self._sock.send(_RMCP + struct.pack("<BBIIH", _RMCPP, 0, session, 1, len(message)) + message)
