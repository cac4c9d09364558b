"""The Redfish client against OpenStack's sushy-emulator, a service that we did not write."""

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

EMULATOR = shutil.which("sushy-emulator", path=str(Path(sys.executable).parent))
pytestmark = pytest.mark.skipif(EMULATOR is None, reason="sushy-emulator is not installed: pip install sushy-tools")

USER, PASSWORD = "pveha", "a-pass-word"
AMPLE = 60.0
LAG = 15.0
"""Seconds in which the power follows its command; 0.8 to 6.6 were seen."""


class Emulator:
    """A running emulator with one machine, and clients of it."""

    def __init__(self, port: int, ca_file: Path) -> None:
        self.port = port
        self._ca_file = ca_file

    def client(self, password: str = PASSWORD) -> RedfishBmc:
        return RedfishBmc("127.0.0.1", self.port, USER, lambda: password, Trust(ca_file=self._ca_file), LiveClock())


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
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
        emulator = Emulator(port, folder / "ca.pem")
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


def test_power_follows_its_command(emulator: Emulator) -> None:
    """Power goes on, off and on again, a while after the command was accepted, by both kinds of reading."""
    bmc, clock = emulator.client(), LiveClock()
    for command, on in (("on", True), ("off", False), ("on", True), ("soft", False)):
        bmc.set_power(command, clock.deadline(AMPLE))  # type: ignore[arg-type]
        begun = clock.now().mono
        while bmc.fresh_power_state(clock.deadline(AMPLE)).on is not on:
            assert clock.now().mono - begun < LAG * SECOND
            clock.sleep(0.2)
        assert bmc.power_state(clock.deadline(AMPLE)).on is on


def test_what_it_lacks_is_told(emulator: Emulator) -> None:
    """No power cycle, no event log and no accounts: each is said, and nothing is sent in place of a cycle."""
    bmc, clock = emulator.client(), LiveClock()
    with pytest.raises(ProtocolError, match=r"has no PowerCycle|not supported in the present state"):
        bmc.set_power("cycle", clock.deadline(AMPLE))
    with pytest.raises(ProtocolError, match="no system event log"):
        bmc.sel(clock.deadline(AMPLE))
    access = bmc.access(clock.deadline(AMPLE))
    assert (access.may_switch, access.others) == (None, None)


def test_identity_and_credentials(emulator: Emulator) -> None:
    """The system's UUID is told to who may ask, and a wrong password is AuthRefused."""
    clock = LiveClock()
    assert len(emulator.client().identity(clock.deadline(AMPLE))["uuid"]) == 36
    with pytest.raises(AuthRefused):
        emulator.client("wrong").power_state(clock.deadline(AMPLE))
