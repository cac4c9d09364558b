"""A BMC to test against: the simulated server on a loopback socket, and a machine that obeys at once."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from pytest_pveha.sim.servers.bmc import SelEntry
from pytest_pveha.sim.servers.certs import Authority
from pytest_pveha.sim.servers.ipmi import BmcServer
from pytest_pveha.sim.servers.ports import Silence
from pytest_pveha.sim.servers.redfish import RedfishServer
from pytest_pveha.sim.servers.redfish_vendors import VENDORS

USER = "pveha"
PASSWORD = "Tr0ub4dor&3 'x"


class Machine:
    """What the BMC belongs to; power commands take effect at once, time stands unless moved."""

    mac = "52:54:00:12:34:56"
    ip = "192.0.2.11"
    guid = UUID("00112233-4455-6677-8899-aabbccddeeff")

    def __init__(self) -> None:
        self.on = True
        self.time = 1767340800.0
        self.commands: list[str] = []
        self.silent_from = ""
        """Every datagram is dropped from the given power command on ("" = never, "now" = from now)."""
        self.dropped = 0
        """Datagrams that were not answered."""
        self.when_silent: Callable[[], None] = lambda: None
        self.going = ""
        """What the BMC believes to be under way: on, off or nothing."""
        self.boot: bytes | None = bytes(5)
        """Its boot flags; None: it knows no boot options."""
        self.paused: list[float] = []
        self.when_paused: Callable[[], None] = lambda: None
        self.log: list[SelEntry] = [
            SelEntry(1767340000.0, sensor_type=0x09, sensor=0x30, event_type=0x6F, data=b"\x00\xff\xff"),
            SelEntry(1767340100.0, sensor_type=0x23, sensor=0x71, event_type=0x6F, data=b"\x01\xff\xff"),
        ]
        self._lock = threading.Lock()

    @contextmanager
    def acting(self, sock: socket.socket | None = None) -> Iterator[None]:
        if self.silent_from == "now":
            self.dropped += 1
            raise Silence
        with self._lock:
            yield

    def chassis_on(self) -> bool:
        return self.on

    def control(self, command: str) -> None:
        self.commands.append(command)
        if self.silent_from == command:
            self.silent_from = "now"
            self.dropped += 1
            self.when_silent()
            raise Silence
        if command in ("on", "off"):
            self.on = command == "on"
        elif command == "soft":
            self.on = False

    def under_way(self) -> str:
        return self.going

    def pause(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.when_paused()

    def boot_flags(self) -> bytes | None:
        return self.boot

    def now(self) -> float:
        return self.time

    def sel(self) -> Sequence[SelEntry]:
        return self.log


class RedfishBench:
    """A running Redfish service, its machine and its port, and the CA that signed its certificate."""

    def __init__(self, folder: Path, vendor: str = "generic", **more: Any) -> None:
        self.machine = Machine()
        self.machine.ip = "127.0.0.1"
        authority = Authority("bench")
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(authority.pem)
        context = authority.issue("bmc").server_context(folder)
        self.server = RedfishServer(self.machine, USER, PASSWORD, context, VENDORS[vendor], **more)
        self.port = self.server.port.port
        self.server.start()

    def close(self) -> None:
        self.server.port.close()


@contextmanager
def redfish(vendor: str = "generic", **more: Any) -> Iterator[RedfishBench]:
    """A Redfish service that answers while open."""
    with tempfile.TemporaryDirectory() as folder:
        bench = RedfishBench(Path(folder), vendor, **more)
        try:
            yield bench
        finally:
            bench.close()


class Bench:
    """A running BMC, its machine and its port."""

    def __init__(
        self,
        machine: Machine,
        max_sessions: int = 4,
        *,
        privilege: str = "ADMINISTRATOR",
        cipher_zero: bool = False,
        answer_seconds: float = 0.0,
    ) -> None:
        self.machine = machine
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self.server = BmcServer(
            machine,
            USER,
            PASSWORD,
            self._sock,
            max_sessions,
            privilege=privilege,
            cipher_zero=cipher_zero,
            answer_seconds=answer_seconds,
        )
        self.server.start()

    def close(self) -> None:
        self.server.stop()
        self._sock.close()


@contextmanager
def bmc(max_sessions: int = 4, **more: Any) -> Iterator[Bench]:
    """A BMC that answers while open."""
    bench = Bench(Machine(), max_sessions, **more)
    try:
        yield bench
    finally:
        bench.close()
