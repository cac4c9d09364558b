"""A connect that is begun and not waited for: how a place is asked whether anything is there."""

from __future__ import annotations

import socket

from pytest_pveha.wire.names import PATIENCE, known, ways


def knock(host: str, port: int) -> tuple[socket.socket, int] | None:
    """The socket, and how far its connect is (an errno, EINPROGRESS while it is open).

    None: where the name leads is not known, or not yet; it is being looked up. Waits for nothing.
    """
    found = known(host, port)
    if not found:
        return None
    # a name with addresses of both kinds is asked by IPv4, always: a probe does not change its way
    family, to = min(found, key=lambda way: way[0] != socket.AF_INET)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    return sock, sock.connect_ex(to)


def learn(host: str, port: int, patience: float = PATIENCE) -> str:
    """Where the name leads is known from now on; else why it is not, after that many real seconds at most."""
    try:
        ways(host, port, patience=patience)
    except OSError as error:
        return error.strerror or str(error)
    return ""
