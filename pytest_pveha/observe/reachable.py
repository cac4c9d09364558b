"""Whether anything answers at some places, asked all at once."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from pytest_pveha.clock import SECOND, Clock
from pytest_pveha.errors import Unreachable
from pytest_pveha.handles.knock import knock, learn

Place = tuple[str, int]

_SPOKEN = (0, errno.ECONNREFUSED, errno.ECONNRESET)
"""How a connect ends that the other machine decided; all else the network did, or ours."""


def answering(clock: Clock, places: Sequence[Place], patience: float = 1.0) -> list[Place]:
    """The places (host, port) at which anything answers, be it a refusal, within so many seconds.

    Raises:
        Unreachable: where one of the names leads cannot be told, so that its silence would prove nothing.
    """
    begun: dict[int, tuple[socket.socket, Place]] = {}
    found = []
    for host, port in places:
        if why := learn(host, port):
            raise Unreachable(f"whether anything answers at {host}:{port} cannot be told: {why}")
        if (knocked := knock(host, port)) is None:
            continue
        sock, code = knocked
        if code == errno.EINPROGRESS:
            begun[sock.fileno()] = (sock, (host, port))
            continue
        sock.close()
        if code in _SPOKEN:
            found.append((host, port))
    ports = {fd: port for fd, (_, (_, port)) in begun.items()}
    decided = clock.connected(ports, clock.now().mono + round(patience * SECOND)) if ports else set()
    for fd, (sock, place) in begun.items():
        if fd in decided and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in _SPOKEN:
            found.append(place)
        sock.close()
    return [place for place in places if place in found]
