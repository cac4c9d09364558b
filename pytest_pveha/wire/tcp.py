"""TCP connections that another thread may break, so that a deadline ends a blocked call at once."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import threading

from pytest_pveha.wire.names import ways

BACKSTOP = 3600.0
"""Seconds a library may wait by itself. No result is ever decided by it: the guard's deadline comes long before."""

_LINGER_NONE = struct.pack("ii", 1, 0)


class Hold:
    """The sockets one call may be blocked on.

    ``sever`` is what a guard calls at the deadline: whatever the call reads, writes or connects fails at once, and so
    does every socket it takes up later. After ``let_go`` nothing is broken any more: the connection is kept for the
    next call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._events: list[threading.Event] = []
        self._open = True
        self.severed = False

    def take(self, sock: socket.socket) -> None:
        """``sock`` falls with this call; at once if the call is already severed."""
        with self._lock:
            self._sockets.append(sock)
            if self.severed:
                break_off(sock)

    def wake(self, event: threading.Event) -> None:
        """``event`` is set when this call is severed; at once if it is already."""
        with self._lock:
            self._events.append(event)
            if self.severed:
                event.set()

    def sever(self) -> None:
        """Every socket of the call is broken, every wait of it ended; nothing if the call has ended."""
        with self._lock:
            if not self._open:
                return
            self.severed = True
            for sock in self._sockets:
                break_off(sock)
            for event in self._events:
                event.set()

    def let_go(self) -> None:
        """The call has ended: a late ``sever`` does nothing."""
        with self._lock:
            self._open = False
            self._sockets.clear()
            self._events.clear()


def break_off(sock: socket.socket) -> None:
    """Whoever is blocked on ``sock`` wakes with an error or an end of file; its close sends a reset.

    Shut down rather than closed: a close in one thread does not wake a read in another, and the descriptor's number
    could go to somebody else. ``socket.socket``'s own shutdown: ssl's would drop the TLS layer under the reader.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Address:
    """A host and port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def connect(self, hold: Hold) -> socket.socket:
        """A connected socket without Nagle's delay; the first of the host's addresses that takes us.

        Raises:
            OSError: none of them did, it has none, or the call was severed.
        """
        refusal: OSError | None = None
        for family, to in ways(self.host, self.port, patience=BACKSTOP, hold=hold.wake):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                # 44 ms a command otherwise: Nagle waits for the delayed ACK
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(BACKSTOP)
                hold.take(sock)
                sock.connect(to)
                if hold.severed:  # shut down before it was opened: Linux then calls it connected while nobody answered
                    raise ConnectionAbortedError(errno.ECONNABORTED, "the deadline passed before it was connected")
            except OSError as error:
                refusal = error
                sock.close()
                if hold.severed:
                    break
            else:
                return sock
        raise refusal if refusal is not None else OSError(f"{self.host} has no address")


def reason(error: BaseException) -> str:
    """What went wrong, in the system's words, without a library's wrapping."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
