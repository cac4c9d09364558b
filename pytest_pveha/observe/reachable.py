"""Whether anything answers at some places, asked all at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from pytest_pveha.clock import SECOND, Clock


def answering(clock: Clock, places: Sequence[tuple[str, int]], patience: float = 1.0) -> list[tuple[str, int]]:
    """The places (host, port) at which anything answers, be it a refusal, within so many seconds."""
    sockets = {}
    for host, port in places:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.connect_ex((host, port))
        sockets[sock.fileno()] = (sock, (host, port))
    ports = dict(zip(sockets, (port for _, port in places), strict=True))
    decided = clock.connected(ports, clock.now().mono + round(patience * SECOND))
    found = [place for fd, (sock, place) in sockets.items() if fd in decided and not _unreachable(sock)]
    for sock, _ in sockets.values():
        sock.close()
    return found


def _unreachable(sock: socket.socket) -> bool:
    """Whether the network, not the machine, ended this connect (no route, host unreachable, timed out)."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ETIMEDOUT,
    )
