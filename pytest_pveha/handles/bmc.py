"""A node's baseboard management controller: the chassis, beside the operating system."""

from __future__ import annotations

from typing import Protocol

from pytest_pveha.clock import Deadline, Instant
from pytest_pveha.wire.bmc import BmcAccess, PowerCommand, SelEntry
from pytest_pveha.wire.names import ways

__all__ = ["Bmc", "BmcAccess", "PowerCommand", "PowerReading", "SelEntry"]


class PowerReading(Protocol):
    """What the BMC said of the chassis, and when."""

    @property
    def on(self) -> bool: ...
    @property
    def asked_at(self) -> Instant: ...
    @property
    def answered_at(self) -> Instant: ...


class NodeCommands(Protocol):
    """What a node types to reach another node's BMC, each in the spellings that may be needed, the likeliest first."""

    @property
    def on(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def reset(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def status(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def off(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def tells(self) -> tuple[tuple[tuple[str, ...], ...], ...]: ...
    @property
    def secret(self) -> str: ...


class Bmc(Protocol):
    """Chassis power by whichever protocol; the wire clients are made to this shape."""

    def power_state(self, deadline: Deadline) -> PowerReading:
        """What the BMC says now."""

    def fresh_power_state(self, deadline: Deadline) -> PowerReading:
        """The same from a new process and session: to confirm, never trust the session that gave the command."""

    def set_power(self, command: PowerCommand, deadline: Deadline) -> None:
        """The command was accepted; its effect comes later and must be seen. Never sent twice by itself."""

    def identity(self, deadline: Deadline) -> dict[str, str]:
        """Who it says it is: mac, guid (its own) or uuid (the system's) and more; what it does not tell is left out."""

    def sel(self, deadline: Deadline) -> tuple[SelEntry, ...]:
        """The system event log, oldest first; its times are by the BMC's own clock."""

    def access(self, deadline: Deadline) -> BmcAccess:
        """What our user may do there, and who else may log in."""

    def boot_override(self, deadline: Deadline) -> str | None:
        """What the BMC will make the next boot do, in words, ``none`` for nothing; None: it does not say."""

    def from_a_node(self, secret: str, deadline: Deadline) -> NodeCommands:
        """The commands for a node's own shell; ``secret`` is the file there, for root alone, that they read it from."""

    def close(self) -> None:
        """Nothing of it is open, and its processes have ended."""


def sockets(host: str, port: int) -> frozenset[tuple[str, int]]:
    """Where that name and port lead; two names of one BMC lead to the same. Empty where the name leads nowhere."""
    try:
        return frozenset((str(to[0]), port) for _, to in ways(host, port))
    except OSError:
        return frozenset()
