"""Ports on loopback that can be open, refusing or silent, as those of a living, a booting and a dead machine.

A silent TCP port demands a TTL that no packet on loopback has, of the listener and of every connection it accepted:
SYNs are lost, nothing is acknowledged, nothing is reset. A silent UDP port has a "drop everything" BPF filter. Neither
needs a privilege, whereas such a filter on a TCP socket may (CAP_NET_ADMIN, seen on Linux 6.18.44). Refusing is a bound
socket that does not listen.

Source: ip(7), IP_MINTTL; socket(7) and tcp(7), SO_ATTACH_FILTER, TCP_DEFER_ACCEPT; Linux net/ipv4/tcp_ipv4.c,
tcp_v4_rcv (min_ttl), and Documentation/networking/filter.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
from enum import Enum

from pytest_pveha.sim.gate import Gone

IP_MINTTL = 21
"""Packets with a lower TTL are dropped; 0: none are."""
MOST = 255
"""Packets of this machine to itself start with less: net.ipv4.ip_default_ttl, 64 unless somebody changed it."""

SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
BPF_RET_K = 0x06

_DEFER_SECONDS = 30
_BACKLOG = 4096


class Silence(Gone):
    """The machine died while it was answering: not even the connection may end, until it boots again."""


class State(Enum):
    """What a peer meets at a port."""

    OPEN = "open"
    REFUSING = "refusing"
    SILENT = "silent"
    CLOSED = "closed"


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


_DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", BPF_RET_K, 0, 0, 0), 8)
_DROP_ALL_PROGRAM = bytes(_SockFprog(1, ctypes.addressof(_DROP_ALL)))
_LIBC = ctypes.CDLL(None, use_errno=True)


def mute(sock: socket.socket) -> None:
    """Everything that arrives for ``sock`` is lost from now on; harmless if it is already closed."""
    if sock.fileno() == -1:
        return
    if sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, MOST)
    else:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _DROP_ALL_PROGRAM)


def unmute(sock: socket.socket) -> None:
    """What arrives for ``sock`` is heard again; harmless if it was."""
    with contextlib.suppress(OSError):
        if sock.type == socket.SOCK_STREAM:
            sock.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 0)
        else:
            sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def reset(sock: socket.socket) -> None:
    """The peer of an established connection has been sent a RST; a thread blocked on ``sock`` wakes with an error.

    ``close()`` would not do: while another thread reads the socket the connection stays up. Dissolving the
    association (connect to AF_UNSPEC) resets it at once; where a kernel refuses that, shutdown at least ends it.
    """
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        nowhere = struct.pack("=H14x", socket.AF_UNSPEC)
        if _LIBC.connect(sock.fileno(), nowhere, len(nowhere)) != 0:
            sock.shutdown(socket.SHUT_RDWR)


class TcpPort:
    """One TCP port of a simulated machine, kept for the site's life whatever state it is in.

    Args:
        defer_accept: the kernel alone answers handshakes and nothing queues, so nobody needs to accept.
        state: what a peer meets at first.
    """

    def __init__(
        self, host: str = "127.0.0.1", *, defer_accept: bool = False, port: int = 0, state: State = State.OPEN
    ) -> None:
        self.host = host
        self._defer_accept = defer_accept
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._accepted: set[socket.socket] = set()
        self._abandoned: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        # keeps the port ours while nobody listens, so that no client of this machine is given it
        self._reserve = self._bound(port)
        self.port: int = self._reserve.getsockname()[1]
        self.state = State.REFUSING
        if state is not State.REFUSING:
            self.revive()
        if state is State.SILENT:
            self.silence()

    @property
    def address(self) -> tuple[str, int]:
        """Where a client connects to."""
        return self.host, self.port

    def silence(self) -> None:
        """Nothing that arrives is heard, on the listener or on any accepted connection."""
        with self._changed:
            if self.state in (State.CLOSED, State.SILENT):
                return
            # a SYN must be lost, not refused: a listener has to stand behind the filter
            listener = self._listener or self._listen(muted=True)
            mute(listener)
            for sock in self._alive():
                mute(sock)
            self.state = State.SILENT
            self._changed.notify_all()

    def revive(self) -> None:
        """Open, as after a boot: new connections are answered, those accepted before are reset."""
        with self._changed:
            if self.state is State.CLOSED:
                return
            was_silent = self.state is State.SILENT
            if was_silent:
                self._reset_accepted()
            if self._listener is None:
                self._listen()
            elif was_silent:
                self._drop_backlog(self._listener)
                unmute(self._listener)
            self.state = State.OPEN
            self._changed.notify_all()

    def refuse(self, *, keep: bool = False) -> None:
        """The machine lives and nobody listens: connections are refused, those accepted before are reset or kept."""
        with self._changed:
            if self.state is State.CLOSED:
                return
            if not keep:
                self._reset_accepted()
            self._stop_listening()
            self.state = State.REFUSING
            self._changed.notify_all()

    def close(self) -> None:
        """The port is given back; a thread in ``accept`` gets None."""
        with self._changed:
            if self.state is State.CLOSED:
                return
            self._reset_accepted()
            self._stop_listening()
            self._reserve.close()
            self.state = State.CLOSED
            self._changed.notify_all()

    def track(self, sock: socket.socket) -> None:
        """``sock`` shares the port's fate from now on; one accepted while the port is silent is deaf at once."""
        with self._lock:
            self._alive()
            self._accepted.add(sock)
            if self.state is State.SILENT:
                mute(sock)
            elif self.state is not State.OPEN:
                reset(sock)

    def forget(self, sock: socket.socket) -> None:
        """``sock`` is no longer this port's concern; call before closing it."""
        with self._lock:
            self._accepted.discard(sock)

    def abandon(self, sock: socket.socket) -> None:
        """``sock`` is served by nobody any more and says nothing, not even good-bye, until the port resets it."""
        with self._lock:
            self._accepted.discard(sock)
            if self.state is State.CLOSED:
                sock.close()
            elif sock.fileno() != -1:
                self._abandoned.add(sock)
                mute(sock)

    def accept(self) -> socket.socket | None:
        """The next connection, tracked and without Nagle's delay; None once the port is closed.

        The listener changes with the port's state; the caller's thread need not know.
        """
        while True:
            with self._changed:
                while self._listener is None:
                    if self.state is State.CLOSED:
                        return None
                    self._changed.wait()
                listener = self._listener
            try:
                sock, _ = listener.accept()
            except OSError:  # shut down: refusing, reopened or closed by now
                with self._changed:
                    if self._listener is listener:
                        self._listener = None
                continue
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.track(sock)
            return sock

    def _bound(self, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.host, port))
        return sock

    def _listen(self, *, muted: bool = False) -> socket.socket:
        listener = self._bound(self.port)
        if self._defer_accept:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        if muted:
            mute(listener)
        listener.listen(_BACKLOG)
        self._listener = listener
        return listener

    def _stop_listening(self) -> None:
        """Nobody listens; a thread in accept() is woken. A listener once shut down is never used again."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _alive(self) -> list[socket.socket]:
        self._accepted = {sock for sock in self._accepted if sock.fileno() != -1}
        return list(self._accepted)

    def _reset_accepted(self) -> None:
        for sock in [*self._alive(), *self._abandoned]:
            unmute(sock)
            reset(sock)
        for sock in self._abandoned:  # the others belong to the threads that serve them
            sock.close()
        self._accepted.clear()
        self._abandoned.clear()

    @staticmethod
    def _drop_backlog(listener: socket.socket) -> None:
        """Connections that shook hands before the death and were never accepted are reset."""
        timeout = listener.gettimeout()
        listener.setblocking(False)
        try:
            while True:
                sock, _ = listener.accept()
                unmute(sock)
                reset(sock)
                sock.close()
        except OSError:
            pass
        finally:
            listener.settimeout(timeout)


class UdpPort:
    """One UDP port of a simulated machine: heard, or silent."""

    def __init__(self, host: str = "127.0.0.1", *, port: int = 0) -> None:
        self.host = host
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.sock.bind((host, port))
        self.port: int = self.sock.getsockname()[1]
        self.state = State.OPEN

    @property
    def address(self) -> tuple[str, int]:
        """Where a client sends to."""
        return self.host, self.port

    def silence(self) -> None:
        """Datagrams are lost, those not yet read as well."""
        if self.state is State.OPEN:
            mute(self.sock)
            self.drain()
            self.state = State.SILENT

    def revive(self) -> None:
        """Datagrams are heard again."""
        if self.state is State.SILENT:
            unmute(self.sock)
            self.state = State.OPEN

    def drain(self) -> None:
        """What arrived and was not read is gone."""
        with contextlib.suppress(OSError):
            while True:
                self.sock.recv(1, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """The port is given back; a thread in ``recvfrom`` wakes."""
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
            self.sock.close()
