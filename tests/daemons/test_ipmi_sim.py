"""The IPMI client against OpenIPMI's ipmi_sim, a BMC that we did not write."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from boards import COMMAND, PASSWORD, USER, describe

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import AuthRefused, Unreachable
from pytest_pveha.wire.ipmi import IpmiBmc

pytestmark = pytest.mark.skipif(
    shutil.which("ipmi_sim") is None, reason="ipmi_sim is not installed: apt-get install openipmi"
)

GUID = "a123456789abcdefa123456789abcdef"
AMPLE = 60.0


@dataclass(frozen=True)
class Board:
    """A running ipmi_sim, and the file that holds its power."""

    port: int
    power: Path
    process: subprocess.Popen[bytes]

    def client(self, password: str = PASSWORD, privilege: str = "OPERATOR") -> IpmiBmc:
        """A client of it; ipmi_sim knows suite 3 and not 17."""
        return IpmiBmc("127.0.0.1", self.port, USER, lambda: password, LiveClock(), cipher=3, privilege=privilege)


@contextmanager
def boards(folder: Path, count: int) -> Iterator[list[Board]]:
    """So many boards that are on, each a process of its own."""
    found: list[Board] = []
    try:
        for number in range(count):
            home = folder / str(number)
            home.mkdir()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.bind(("127.0.0.1", 0))
                port = sock.getsockname()[1]
            describe(home, "127.0.0.1", port, GUID)
            null = subprocess.DEVNULL
            process = subprocess.Popen(COMMAND, cwd=home, stdin=null, stdout=null, stderr=null)
            found.append(Board(port, home / "power", process))
        for one in found:
            client = one.client()
            client.power_state(LiveClock().deadline(AMPLE))  # up
            client.close()
        yield found
    finally:
        for one in found:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board that is on."""
    with boards(tmp_path, 1) as (one,):
        yield one


def test_power_goes_off_and_on(board: Board) -> None:
    """Power follows its command, by our reading, a fresh one, and what the board itself holds."""
    bmc, clock = board.client(), LiveClock()
    for command, on in (("off", False), ("on", True), ("cycle", True)):
        bmc.set_power(command, clock.deadline(AMPLE))  # type: ignore[arg-type]
        deadline = clock.deadline(AMPLE)
        while bmc.fresh_power_state(clock.deadline(AMPLE)).on is not on:
            assert not deadline.expired()
        assert bmc.power_state(clock.deadline(AMPLE)).on is on
        assert board.power.read_text().strip() == str(int(on))
    bmc.close()


def test_what_it_tells(board: Board) -> None:
    """Identity, users and privilege are read; the anonymous user that may log in is found."""
    bmc, clock = board.client(), LiveClock()
    told = bmc.identity(clock.deadline(AMPLE))
    assert told["guid"].replace("-", "") == bytes(reversed(bytes.fromhex(GUID))).hex()
    assert told["firmware"] == "9.08"
    access = bmc.access(clock.deadline(AMPLE))
    assert (access.level, access.may_switch, access.others) == ("ADMINISTRATOR", True, ("",))
    bmc.close()


@pytest.mark.skipif(shutil.which("ipmitool") is None, reason="ipmitool is not installed: apt-get install ipmitool")
@pytest.mark.parametrize("by_tool", [False, True])
def test_its_log_is_read(board: Board, tmp_path: Path, by_tool: bool) -> None:
    """Events that ipmitool put into the log come out as what they are, read by pyghmi and by ipmitool."""
    bmc, clock = board.client(), LiveClock()
    bmc._by_tool = by_tool
    assert bmc.sel(clock.deadline(AMPLE)) == ()
    events = tmp_path / "events"
    events.write_text("0x04 0x09 0x01 0x6f 0x00 0xff 0xff\n0x04 0x23 0x71 0x6f 0x01 0xff 0xff\n")
    words = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", str(board.port), "-U", USER]
    subprocess.run([*words, "-P", PASSWORD, "sel", "add", str(events)], check=True, capture_output=True, timeout=AMPLE)
    assert [entry.event for entry in bmc.sel(clock.deadline(AMPLE))] == ["power off", "watchdog reset"]
    bmc.close()


def test_its_hole_is_found(board: Board) -> None:
    """ipmi_sim lets anybody in by cipher suite 0, and that is found with a wrong password."""
    bmc = board.client(password="wrong")
    assert bmc.cipher_zero(LiveClock().deadline(AMPLE)) is True
    with pytest.raises(AuthRefused):
        bmc.power_state(LiveClock().deadline(AMPLE))
    bmc.close()


def test_a_board_that_dies(board: Board) -> None:
    """After its death a call by any session ends at its deadline, as Unreachable, and no command was sent."""
    bmc, clock = board.client(), LiveClock()
    bmc.power_state(clock.deadline(AMPLE))
    board.process.kill()
    board.process.wait()
    for call in (bmc.power_state, bmc.fresh_power_state, bmc.sel, lambda deadline: bmc.set_power("off", deadline)):
        with pytest.raises(Unreachable):
            call(clock.deadline(1))
    bmc.close()
    assert board.power.read_text().strip() == "1"


def test_thirty_two_at_once(tmp_path: Path) -> None:
    """Of 32 boards switched at once each does it and says so; the one that hangs and the dead one delay nobody."""
    clock = LiveClock()

    def switched(client: IpmiBmc) -> bool | None:
        """What it says of its power once it was told to be off; None where nobody answers."""
        try:
            client.set_power("off", clock.deadline(AMPLE))
        except Unreachable:
            return None
        deadline = clock.deadline(AMPLE)
        while (on := client.fresh_power_state(clock.deadline(AMPLE)).on) and not deadline.expired():
            pass
        return on

    with boards(tmp_path, 32) as crowd, ThreadPoolExecutor(len(crowd)) as pool:
        clients = [one.client() for one in crowd]
        try:
            assert all(state.on for state in pool.map(lambda one: one.power_state(clock.deadline(AMPLE)), clients))
            crowd[7].process.send_signal(signal.SIGSTOP)
            crowd[19].process.kill()
            said = list(pool.map(switched, [one for place, one in enumerate(clients) if place not in (7, 19)]))
            assert said == [False] * 30
            for place in (7, 19):
                with pytest.raises(Unreachable):
                    clients[place].power_state(clock.deadline(1))
        finally:
            for one in clients:
                one.close()
        held = [one.power.read_text().strip() for one in crowd]
        assert [place for place, power in enumerate(held) if power == "1"] == [7, 19]
