"""A node's baseboard management controller: the chassis, beside the operating system."""

from __future__ import annotations

import socket
from typing import Literal, Protocol

from pytest_pveha.clock import Deadline, Instant

PowerCommand = Literal["on", "off", "cycle", "reset", "soft"]


class PowerReading(Protocol):
    """What the BMC said of the chassis, and when."""

    @property
    def on(self) -> bool: ...
    @property
    def asked_at(self) -> Instant: ...
    @property
    def answered_at(self) -> Instant: ...


class Bmc(Protocol):
    """Chassis power by whichever protocol; the wire clients are made to this shape."""

    def power_state(self, deadline: Deadline) -> PowerReading:
        """What the BMC says now."""

    def fresh_power_state(self, deadline: Deadline) -> PowerReading:
        """The same from a new process and session: to confirm, never trust the session that gave the command."""

    def set_power(self, command: PowerCommand, deadline: Deadline) -> None:
        """The command was accepted; its effect comes later and must be seen. Never sent twice by itself."""

    def identity(self, deadline: Deadline) -> dict[str, str]:
        """Who it says it is: mac, guid and more; what it does not tell is left out."""

    def close(self) -> None:
        """Its processes have ended."""


def sockets(host: str, port: int) -> frozenset[tuple[str, int]]:
    """Where that name and port lead; two names of one BMC lead to the same. Empty where the name leads nowhere."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset((str(to[0]), int(to[1])) for _, _, _, _, to in found)
