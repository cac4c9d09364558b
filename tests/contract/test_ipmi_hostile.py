"""A BMC that answers rubbish: bits flipped, datagrams cut, grown or another's. Refused in time, never misread."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pytest_pveha.clock import SECOND, LiveClock
from pytest_pveha.errors import SiteError
from pytest_pveha.wire.ipmi import IpmiBmc
from tests.sim.bmc_bench import PASSWORD, USER, Bench, bmc

PATIENCE = 1.0
"""Seconds a call may take here; real ones have more."""


class Liar:
    """Stands between client and BMC, and spoils what the BMC says.

    Args:
        honest: answers that go through whole before it begins.
        how: flip, cut, grow, rubbish or echo.
    """

    def __init__(self, bmc_port: int, how: str, honest: int, seed: int) -> None:
        self._dice = random.Random(seed)
        self._how = how
        self._honest = honest
        self._bmc = ("127.0.0.1", bmc_port)
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self.port: int = self._front.getsockname()[1]
        self.spoilt = 0
        self._ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        backs: dict[tuple[str, int], socket.socket] = {}
        self._front.settimeout(0.2)
        while not self._ended.is_set():
            try:
                asked, client = self._front.recvfrom(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if client not in backs:
                back = backs[client] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                back.connect(self._bmc)
                threading.Thread(target=self._return, args=(back, client), daemon=True).start()
            backs[client].send(asked)
            if self._how == "echo" and self._honest <= 0:
                self._front.sendto(asked, client)
        for back in backs.values():
            back.close()

    def _return(self, back: socket.socket, client: tuple[str, int]) -> None:
        back.settimeout(0.2)
        while not self._ended.is_set():
            try:
                said = back.recv(65536)
                for each in self._told(said):
                    self._front.sendto(each, client)
            except TimeoutError:
                continue
            except OSError:
                break

    def _told(self, said: bytes) -> list[bytes]:
        if self._honest > 0:
            self._honest -= 1
            return [said]
        self.spoilt += 1
        dice = self._dice
        match self._how:
            case "flip":
                changed = bytearray(said)
                for _ in range(dice.randint(1, 3)):
                    changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
                return [bytes(changed)]
            case "cut":
                return [said[: dice.randrange(len(said))]]
            case "grow":
                return [said + dice.randbytes(dice.randint(1, 2000))]
            case "rubbish":
                return [dice.randbytes(dice.randint(0, 200)), b"\x06\x00\xff\x07" + dice.randbytes(dice.randint(0, 60))]
            case _:
                return []

    def close(self) -> None:
        """It answers no more."""
        self._ended.set()
        self._front.close()


@contextmanager
def lied_to(bench: Bench, how: str, honest: int, seed: int, cipher: int | None) -> Iterator[tuple[IpmiBmc, Liar]]:
    """A client that reaches the BMC through a liar."""
    liar = Liar(bench.port, how, honest, seed)
    client = IpmiBmc("127.0.0.1", liar.port, USER, lambda: PASSWORD, LiveClock(), cipher=cipher)
    try:
        yield client, liar
    finally:
        client.close()
        liar.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A BMC whose machine is on."""
    with bmc(max_sessions=64) as running:
        yield running


def rounds(quick: int, thorough: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "seeds",
        [
            pytest.param(range(quick), id="quick"),
            pytest.param(range(quick, thorough), id="thorough", marks=pytest.mark.proof),
        ],
    )


@rounds(1, 12)
@pytest.mark.parametrize("how", ["flip", "cut", "grow", "rubbish", "echo"])
@pytest.mark.parametrize("honest", [0, 2, 3, 5])
def test_a_reading_is_right_or_refused(bench: Bench, how: str, honest: int, seeds: range) -> None:
    """From whichever datagram of login or session on the answers are spoilt, "on" is on, or a SiteError in time."""
    clock = LiveClock()
    for seed in seeds:
        with lied_to(bench, how, honest, seed, 3 if seed % 2 else 17) as (client, liar):
            deadline = clock.deadline(PATIENCE)
            try:
                said = client.power_state(deadline).on
            except SiteError as error:
                said = True
                assert str(error).startswith(f"BMC 127.0.0.1:{liar.port}")  # noqa: PT017
                assert str(error).isprintable()  # noqa: PT017
            assert clock.now().mono - deadline.mono < 5 * SECOND
            assert said, "a machine that is on was read as off"
    assert bench.machine.commands == []


@rounds(1, 8)
@pytest.mark.parametrize("how", ["flip", "cut", "grow", "rubbish", "echo"])
@pytest.mark.parametrize("honest", [6, 8])
def test_a_command_is_sent_once_at_most(bench: Bench, how: str, honest: int, seeds: range) -> None:
    """However its answer is spoilt, a power command arrives once or not at all, and nothing else arrives."""
    clock = LiveClock()
    for seed in seeds:
        bench.machine.commands.clear()
        with lied_to(bench, how, honest, seed, 3 if seed % 2 else 17) as (client, _):
            deadline = clock.deadline(PATIENCE)
            accepted = True
            try:
                client.set_power("cycle", deadline)
            except SiteError:
                accepted = False
            assert clock.now().mono - deadline.mono < 5 * SECOND
        assert bench.machine.commands == ["cycle"] or (not accepted and bench.machine.commands == [])
