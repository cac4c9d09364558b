"""Where a host's name leads: looked up beside whoever waits for it, for the system's own look-up knows no deadline.

The one place that asks a name server. A look-up that hangs holds nobody up for longer than his patience, and its answer
is taken when it comes. What was found is remembered for good: the name server may be a guest of the very cluster that
is being broken.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from typing import Any

PATIENCE = 5.0
"""Seconds that a look-up is waited for where nobody says otherwise: what a resolver itself waits for one server."""

Way = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family and the address in its form, as ``connect`` takes it."""


class _LookUp:
    """One look-up under way. Several may wait for it."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._waiting: list[threading.Event] = []
        self._ended = False
        self.error: Exception | None = None
        threading.Thread(target=self._ask, name=f"look-up of {host}", daemon=True).start()

    def tell(self, event: threading.Event) -> None:
        """The event is set when it has ended."""
        with _LOCK:
            if self._ended:
                event.set()
            self._waiting.append(event)

    def _ask(self) -> None:
        found: list[Way] = []
        try:
            found = _ask(self._host)
        except (OSError, UnicodeError) as error:
            self.error = error
        with _LOCK:
            if found:
                _FOUND[self._host] = found
            _UNDER_WAY.pop(self._host, None)
            self._ended = True
            waiting = list(self._waiting)
        for event in waiting:
            event.set()


_LOCK = threading.Lock()
_FOUND: dict[str, list[Way]] = {}
_UNDER_WAY: dict[str, _LookUp] = {}


def known(host: str, port: int) -> list[Way]:
    """Where it leads, as far as that is known now; if it is not, a look-up is under way. Waits for nothing."""
    return _at(port, _numeric(host) or _begin(host)[0])


def ways(
    host: str, port: int, *, patience: float = PATIENCE, hold: Callable[[threading.Event], None] | None = None
) -> list[Way]:
    """Where it leads, in the system's order; never empty.

    Args:
        patience: real seconds that the look-up is waited for.
        hold: is given the event that ends the waiting early.

    Raises:
        OSError: it leads nowhere, or nobody said so in time.
    """
    found, under_way = _numeric(host), None
    if not found:
        found, under_way = _begin(host)
    if under_way is not None:
        ended = threading.Event()
        under_way.tell(ended)
        if hold is not None:
            hold(ended)
        ended.wait(patience)
        with _LOCK:
            found = _FOUND.get(host, [])
        if not found and under_way.error is not None:
            raise OSError(errno.EHOSTUNREACH, f"the name {host} leads nowhere ({under_way.error})")
        if not found:
            raise TimeoutError(errno.ETIMEDOUT, f"no name server said in time where {host} is")
    return _at(port, found)


def _begin(host: str) -> tuple[list[Way], _LookUp | None]:
    with _LOCK:
        if host in _FOUND:
            return _FOUND[host], None
        if host not in _UNDER_WAY:
            _UNDER_WAY[host] = _LookUp(host)
        return [], _UNDER_WAY[host]


def _numeric(host: str) -> list[Way]:
    """The address that it is; empty for a name."""
    try:
        return _ask(host, socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []


def _ask(host: str, flags: int = 0) -> list[Way]:
    rows = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys((family, tuple(to)) for family, _, _, _, to in rows))


def _at(port: int, found: list[Way]) -> list[Way]:
    return [(family, (to[0], port, *to[2:])) for family, to in found]
