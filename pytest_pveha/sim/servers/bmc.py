"""The management controller of one node of the world, before any protocol: what IPMI and Redfish servers stand on."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.gate import Gate
from pytest_pveha.sim.spec import BmcSpec

POWER_UNIT, WATCHDOG_2 = 0x09, 0x23
"""Sensor types (IPMI 2.0, table 42-3)."""
SENSOR_SPECIFIC = 0x6F
"""Event type (table 42-1)."""
_HARD_RESET = 0x01

USUAL_SECONDS = 3.0
"""Within this the world carries a power command out; slower BMCs wait before they pass it on."""

_FORGETS = 15.0
"""Seconds after which a BMC no longer says that a command is under way: it was ignored."""

_FOREIGN = 0xFF00
"""Far from any node's number: what a BMC shows that is some other machine's."""


@dataclass(frozen=True, slots=True)
class SelEntry:
    """One system event record (table 32-1)."""

    at: float
    """UTC, seconds since 1970, by the BMC's clock."""
    sensor_type: int
    sensor: int
    event_type: int
    data: bytes = b"\x00\xff\xff"
    asserted: bool = True


class BmcBackend(Protocol):
    """The machine that a BMC belongs to. Everything but ``acting`` is only asked for inside it."""

    @property
    def mac(self) -> str: ...
    @property
    def ip(self) -> str: ...
    @property
    def guid(self) -> UUID: ...

    def acting(self, sock: socket.socket | None = None) -> AbstractContextManager[object]:
        """The machine held still while open; raises Gone when the request is to be dropped unanswered."""

    def chassis_on(self) -> bool:
        """What the BMC says about the power."""

    def under_way(self) -> str:
        """ "on" or "off" while such a command was accepted and the chassis is not yet so; else empty."""

    def control(self, command: str) -> None:
        """Power command accepted (off, on, cycle, reset, diag, soft); its effect comes later."""

    def boot_flags(self) -> bytes | None:
        """What the next boot will do (IPMI 2.0, table 28-14, parameter 5); None: it knows no boot options."""

    def now(self) -> float:
        """UTC, seconds since 1970, by the site's time."""

    def sel(self) -> Sequence[SelEntry]:
        """The event log, oldest first."""

    def pause(self, seconds: float) -> None:
        """Return that much later, in the site's time; Gone when the requester gave up. Never inside ``acting``."""


class NodeBmc:
    """The BMC at one node's address; see BmcBackend."""

    ip = "127.0.0.1"

    def __init__(self, node: str, gate: Gate) -> None:
        self._gate = gate
        self._machine = gate.world.behind_bmc(node)
        self.spec: BmcSpec = gate.world.bmc_spec(node)
        self.mac = self._machine.spec.bmc_mac
        self.guid = self._machine.spec.system_uuid
        if self.spec.identity == "blank":
            self.mac, self.guid = "00:00:00:00:00:00", UUID(int=0)
        elif self.spec.identity == "wrong":
            self.mac = f"02:00:00:00:ff:{self._machine.nodeid:02x}"
            self.guid = UUID(int=self._machine.spec.system_uuid.int + _FOREIGN)
        self._log: list[SelEntry] = []
        self._command = ""
        self._commanded_at = 0

    @contextmanager
    def acting(self, sock: socket.socket | None = None) -> Iterator[None]:
        with self._gate.acting(sock):
            yield

    def chassis_on(self) -> bool:
        return self._machine.chassis_on

    def under_way(self) -> str:
        going = {"soft": "off"}.get(self._command, self._command)
        if self._gate.world.timeline.now - self._commanded_at > (self.spec.power_seconds + _FORGETS) * SECOND:
            return ""
        return going if going in ("on", "off") and (going == "on") is not self.chassis_on() else ""

    def control(self, command: str) -> None:
        world, name = self._gate.world, self._machine.name
        self._command, self._commanded_at = command, world.timeline.now
        if self.spec.power_seconds <= USUAL_SECONDS:
            world.chassis(name, command)
            return
        after = self.spec.power_seconds - USUAL_SECONDS
        world.timeline.after(after, lambda: world.chassis(name, command), f"BMC of {name}: {command}")

    def boot_flags(self) -> bytes | None:
        return self._machine.boot_flags if self.spec.boot_options else None

    def now(self) -> float:
        return self._gate.world.utc()

    def sel(self) -> Sequence[SelEntry]:
        return self._log

    def pause(self, seconds: float) -> None:
        self._gate.park(seconds)

    def hear(self, kind: str, data: dict[str, Any]) -> None:
        """Something happened in the world: what a BMC sees of it is in its log."""
        if data.get("node") != self._machine.name:
            return
        if kind in ("power_off", "power_on"):
            self._log.append(SelEntry(self.now(), POWER_UNIT, 0x30, SENSOR_SPECIFIC, asserted=kind == "power_off"))
        elif kind == "watchdog_reset" and self.spec.owns_watchdog:
            data_bytes = bytes((_HARD_RESET, 0xFF, 0xFF))
            self._log.append(SelEntry(self.now(), WATCHDOG_2, 0x71, SENSOR_SPECIFIC, data_bytes))
