"""The IPMI client against the simulated BMC and OpenIPMI's ipmi_sim, which we did not write: the same cases on both."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol
from uuid import UUID

import pytest
from boards import COMMAND, PASSWORD, USER, describe
from container import dying_with_us
from packages import PACKAGES, lacks

from pytest_pveha.clock import LiveClock
from pytest_pveha.errors import AuthRefused, Unreachable
from pytest_pveha.handles.bmc import PowerCommand
from pytest_pveha.sim.servers.bmc import SelEntry
from pytest_pveha.wire.ipmi import IpmiBmc
from tests.sim import bmc_bench

GUID = "a123456789abcdefa123456789abcdef"
AMPLE = 60.0
EVENTS = (
    (0x09, 0x01, b"\x00\xff\xff"),
    (0x23, 0x71, b"\x01\xff\xff"),
)
"""Sensor type, sensor number and data of what is in the log where a case puts something there."""


def needs(*tools: str) -> list[pytest.MarkDecorator]:
    """The marks of cases that need these."""
    lacking = [PACKAGES[tool] for tool in tools if lacks(tool)]
    return [pytest.mark.skipif(bool(lacking), reason=f"not installed: apt-get install {' '.join(lacking)}")]


class Board(Protocol):
    """A running BMC and the machine that it belongs to."""

    port: int
    guid: str
    """As it is told: the least significant byte first (IPMI 2.0, 20.8)."""
    user: str
    password: str

    def power(self) -> bool:
        """Whether the machine has power."""

    def goes_down(self) -> None:
        """The machine has switched itself off."""

    def asked(self) -> list[str]:
        """What of soft and reset the machine was told."""

    def logged(self, folder: Path) -> None:
        """``EVENTS`` are in its log."""

    def hang(self) -> None:
        """It takes packets and answers none."""

    def die(self) -> None:
        """It is gone."""


class Real:
    """ipmi_sim, and its folder, where its hook writes."""

    guid = UUID(bytes=bytes(reversed(bytes.fromhex(GUID)))).hex
    user, password = USER, PASSWORD

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self._home = home
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            self.port: int = sock.getsockname()[1]
        describe(home, "127.0.0.1", self.port, GUID)
        self._process = dying_with_us(["env", f"--chdir={home}", *COMMAND], home / "said")

    def power(self) -> bool:
        return (self._home / "power").read_text().strip() == "1"

    def goes_down(self) -> None:
        (self._home / "power").write_text("0\n")

    def asked(self) -> list[str]:
        return ["soft" if word == "shutdown" else word for word in (self._home / "wanted").read_text().split()]

    def logged(self, folder: Path) -> None:
        entries = [bytes([0x04, kind, sensor, 0x6F]) + data for kind, sensor, data in EVENTS]
        lines = [" ".join(f"{byte:#04x}" for byte in entry) for entry in entries]
        (folder / "events").write_text("".join(f"{line}\n" for line in lines))
        words = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", str(self.port), "-U", self.user]
        words += ["-P", self.password, "sel", "add", str(folder / "events")]
        subprocess.run(words, check=True, capture_output=True, timeout=AMPLE)

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def die(self) -> None:
        self._process.kill()
        self._process.wait()


class Simulated:
    """The simulated site's BMC, with the hole that ipmi_sim has."""

    guid = bmc_bench.Machine.guid.hex
    user, password = bmc_bench.USER, bmc_bench.PASSWORD

    def __init__(self) -> None:
        self._machine = bmc_bench.Machine()
        self._machine.log = []
        self._bench = bmc_bench.Bench(self._machine, cipher_zero=True)
        self.port = self._bench.port
        self._dead = False

    def power(self) -> bool:
        return self._machine.on

    def goes_down(self) -> None:
        self._machine.on = False

    def asked(self) -> list[str]:
        return [command for command in self._machine.commands if command in ("soft", "reset")]

    def logged(self, folder: Path) -> None:
        self._machine.log = [SelEntry(1767340000.0, *event[:2], 0x6F, event[2]) for event in EVENTS]

    def hang(self) -> None:
        self._machine.silent_from = "now"

    def die(self) -> None:
        if not self._dead:
            self._bench.close()
        self._dead = True


def client(board: Board, password: str = "", privilege: str = "OPERATOR") -> IpmiBmc:
    """A client of it; ipmi_sim knows suite 3 and not 17."""
    secret = password or board.password
    return IpmiBmc("127.0.0.1", board.port, board.user, lambda: secret, LiveClock(), cipher=3, privilege=privilege)


def up(board: Board) -> None:
    """It answers."""
    bmc = client(board)
    bmc.power_state(LiveClock().deadline(AMPLE))
    bmc.close()


@pytest.fixture(params=["simulated", pytest.param("ipmi_sim", marks=needs("ipmi_sim", "ipmitool"))])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Board]:
    """A board that is on."""
    made: Board = Simulated() if request.param == "simulated" else Real(tmp_path / "board")
    up(made)
    yield made
    made.die()


def test_power_goes_off_and_on(board: Board) -> None:
    """Power follows its command, also one for what is so already, by both kinds of reading and what the board holds."""
    bmc, clock = client(board), LiveClock()
    wanted: list[tuple[PowerCommand, bool]] = [
        ("off", False),
        ("off", False),
        ("on", True),
        ("on", True),
        ("cycle", True),
    ]
    for command, on in wanted:
        bmc.set_power(command, clock.deadline(AMPLE))
        deadline = clock.deadline(AMPLE)
        while bmc.fresh_power_state(clock.deadline(AMPLE)).on is not on:
            assert not deadline.expired()
        assert bmc.power_state(clock.deadline(AMPLE)).on is on
        assert board.power() is on
    bmc.close()


def test_soft_and_reset_are_the_machines_to_obey(board: Board) -> None:
    """Each reaches the machine once; the board says off when that has gone down."""
    bmc, clock = client(board), LiveClock()
    bmc.set_power("reset", clock.deadline(AMPLE))
    assert bmc.fresh_power_state(clock.deadline(AMPLE)).on
    bmc.set_power("soft", clock.deadline(AMPLE))
    assert board.asked() == ["reset", "soft"]
    board.goes_down()
    assert not bmc.fresh_power_state(clock.deadline(AMPLE)).on
    bmc.close()


def test_what_it_tells(board: Board) -> None:
    """Identity and privilege are read; of ipmi_sim the anonymous user that may log in is found, too."""
    bmc, clock = client(board), LiveClock()
    told = bmc.identity(clock.deadline(AMPLE))
    assert told["guid"].replace("-", "") == board.guid
    assert told["firmware"]
    access = bmc.access(clock.deadline(AMPLE))
    assert (access.level, access.may_switch) == ("ADMINISTRATOR", True)
    if isinstance(board, Real):
        assert (access.others, told["firmware"]) == (("",), "9.08")
    bmc.close()


@pytest.mark.parametrize("by_tool", [False, pytest.param(True, marks=needs("ipmitool"))])
def test_its_log_is_read(board: Board, tmp_path: Path, by_tool: bool) -> None:
    """Events come out of the log as what they are, read by pyghmi and by ipmitool; an empty log is empty."""
    bmc, clock = client(board), LiveClock()
    bmc._by_tool = by_tool
    assert bmc.sel(clock.deadline(AMPLE)) == ()
    board.logged(tmp_path)
    assert [entry.event for entry in bmc.sel(clock.deadline(AMPLE))] == ["power off", "watchdog reset"]
    bmc.close()


def test_its_hole_is_found(board: Board) -> None:
    """It lets anybody in by cipher suite 0, and that is found with a wrong password, which opens nothing else."""
    bmc = client(board, password="wrong")
    assert bmc.cipher_zero(LiveClock().deadline(AMPLE)) is True
    for call in (bmc.power_state, bmc.fresh_power_state, bmc.identity, bmc.sel, bmc.access):
        with pytest.raises(AuthRefused, match=r"refused user .*check user"):
            call(LiveClock().deadline(AMPLE))
    with pytest.raises(AuthRefused):
        bmc.set_power("off", LiveClock().deadline(AMPLE))
    assert board.power()
    bmc.close()


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_board_that_does_not_answer_any_more(board: Board, how: str) -> None:
    """A call by any session ends at its deadline, as Unreachable, and no command was carried out."""
    bmc, clock = client(board), LiveClock()
    bmc.power_state(clock.deadline(AMPLE))
    board.die() if how == "dies" else board.hang()
    for call in (bmc.power_state, bmc.fresh_power_state, bmc.sel, lambda deadline: bmc.set_power("off", deadline)):
        with pytest.raises(Unreachable):
            call(clock.deadline(1))
    bmc.close()
    assert board.power()


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=needs("ipmi_sim"))], ids=["simulated", "ipmi_sim"])
def test_thirty_two_at_once(tmp_path: Path, real: bool) -> None:
    """Of 32 boards switched at once each does it and says so; the one that hangs and the dead one delay nobody."""
    clock = LiveClock()

    def switched(bmc: IpmiBmc) -> bool | None:
        """What it says of its power once it was told to be off; None where nobody answers."""
        try:
            bmc.set_power("off", clock.deadline(AMPLE))
        except Unreachable:
            return None
        deadline = clock.deadline(AMPLE)
        while (on := bmc.fresh_power_state(clock.deadline(AMPLE)).on) and not deadline.expired():
            pass
        return on

    crowd: list[Board] = [Real(tmp_path / str(number)) if real else Simulated() for number in range(32)]
    clients = [client(one) for one in crowd]
    try:
        with ThreadPoolExecutor(len(crowd)) as pool:
            assert all(state.on for state in pool.map(lambda one: one.power_state(clock.deadline(AMPLE)), clients))
            crowd[7].hang()
            crowd[19].die()
            said = list(pool.map(switched, [one for place, one in enumerate(clients) if place not in (7, 19)]))
            assert said == [False] * 30
            for place in (7, 19):
                with pytest.raises(Unreachable):
                    clients[place].power_state(clock.deadline(1))
        assert [place for place, one in enumerate(crowd) if one.power()] == [7, 19]
    finally:
        for one in clients:
            one.close()
        for board in crowd:
            board.die()
