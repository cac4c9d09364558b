"""The Redfish client against the simulated service and OpenStack's sushy-emulator: the same cases on both."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from container import dying_with_us

from pytest_pveha.clock import SECOND, LiveClock
from pytest_pveha.errors import AuthRefused, ProtocolError, Unreachable
from pytest_pveha.sim.servers.certs import Authority
from pytest_pveha.wire.redfish import RedfishBmc
from pytest_pveha.wire.tls import Trust
from tests.sim import bmc_bench

EMULATOR = shutil.which("sushy-emulator", path=str(Path(sys.executable).parent))
INSTALLED = pytest.mark.skipif(EMULATOR is None, reason="sushy-emulator is not installed: pip install sushy-tools")

USER, PASSWORD = "pveha", "a-pass-word"
AMPLE = 60.0
LAG = 15.0
"""Seconds in which the power follows its command; 0.8 to 6.6 were seen."""


class Service:
    """A running service with one machine, and clients of it."""

    def __init__(self, port: int, ca_file: Path, user: str, password: str) -> None:
        self.port = port
        self._ca_file = ca_file
        self._user = user
        self._password = password

    def client(self, password: str = "") -> RedfishBmc:
        secret = password or self._password
        return RedfishBmc("127.0.0.1", self.port, self._user, lambda: secret, Trust(ca_file=self._ca_file), LiveClock())


@pytest.fixture(params=["simulated", pytest.param("sushy", marks=INSTALLED)])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    """Each of the two services, for one user."""
    if request.param == "sushy":
        yield request.getfixturevalue("emulator")
        return
    with bmc_bench.redfish() as bench:
        yield Service(bench.port, bench.ca, bmc_bench.USER, bmc_bench.PASSWORD)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The emulator with its fake driver, by HTTPS, for one user."""
    folder = tmp_path_factory.mktemp("emulator")
    authority = Authority("emulator")
    (folder / "ca.pem").write_bytes(authority.pem)
    authority.issue("bmc").server_context(folder)
    (folder / "users").write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    settings = {
        "LISTEN_IP": "127.0.0.1",
        "LISTEN_PORT": port,
        "SSL_CERT": str(folder / "bmc.pem"),
        "SSL_KEY": str(folder / "bmc.key"),
        "AUTH_FILE": str(folder / "users"),
        "STATE_DIR": str(folder),
    }
    lines = [f"SUSHY_EMULATOR_{name} = {value!r}\n" for name, value in settings.items()]
    (folder / "emulator.conf").write_text("".join(lines))
    process = dying_with_us([str(EMULATOR), "--config", str(folder / "emulator.conf"), "--fake"], folder / "said")
    try:
        emulator = Service(port, folder / "ca.pem", USER, PASSWORD)
        clock = LiveClock()
        deadline = clock.deadline(AMPLE)
        while True:
            try:
                emulator.client().power_state(clock.deadline(AMPLE))
                break
            except Unreachable:
                assert not deadline.expired()
                assert process.poll() is None
                clock.sleep(0.2)
        yield emulator
    finally:
        process.kill()
        process.wait()


def test_power_follows_its_command(service: Service) -> None:
    """Power goes on, off and on again, a while after the command was accepted, by both kinds of reading."""
    bmc, clock = service.client(), LiveClock()
    for command, on in (("on", True), ("off", False), ("on", True), ("soft", False)):
        bmc.set_power(command, clock.deadline(AMPLE))  # type: ignore[arg-type]
        begun = clock.now().mono
        while bmc.fresh_power_state(clock.deadline(AMPLE)).on is not on:
            assert clock.now().mono - begun < LAG * SECOND
            clock.sleep(0.2)
        assert bmc.power_state(clock.deadline(AMPLE)).on is on


@INSTALLED
def test_what_it_lacks_is_told(emulator: Service) -> None:
    """No power cycle, no event log and no accounts: each is said, and nothing is sent in place of a cycle."""
    bmc, clock = emulator.client(), LiveClock()
    with pytest.raises(ProtocolError, match=r"has no PowerCycle|not supported in the present state"):
        bmc.set_power("cycle", clock.deadline(AMPLE))
    with pytest.raises(ProtocolError, match="no system event log"):
        bmc.sel(clock.deadline(AMPLE))
    access = bmc.access(clock.deadline(AMPLE))
    assert (access.may_switch, access.others) == (None, None)


def test_identity_and_credentials(service: Service) -> None:
    """The system's UUID is told to who may ask, and a wrong password is AuthRefused."""
    clock = LiveClock()
    on = service.client().power_state(clock.deadline(AMPLE)).on
    assert len(service.client().identity(clock.deadline(AMPLE))["uuid"]) == 36
    stranger = service.client("wrong")
    for call in (stranger.power_state, stranger.identity, lambda deadline: stranger.set_power("off", deadline)):
        with pytest.raises(AuthRefused):
            call(clock.deadline(AMPLE))
    assert service.client().power_state(clock.deadline(AMPLE)).on is on
