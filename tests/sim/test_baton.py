"""Time passes only when nobody has anything to do, and never for the dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_pveha.clock import SECOND, Decided
from pytest_pveha.errors import Interrupted, SiteBusy, TimedOut, Unreachable
from pytest_pveha.sim.baton import Baton
from pytest_pveha.sim.gate import Gone
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.simclock import SiteClock, stop_site

EPOCH = 1_767_340_800


class Place:
    """A site of nothing but time: a timeline, a set of silent ports, and the baton."""

    def __init__(self, directory: Path) -> None:
        self.timeline = Timeline()
        self.silent: set[int] = set()
        self.address = directory / "baton"
        self.baton = Baton(self.timeline, self.address, silent=self.silent.__contains__)
        self.thread = threading.Thread(target=self.baton.serve, daemon=True)
        self.thread.start()

    def clock(self, name: str = "main") -> SiteClock:
        return SiteClock(self.address, EPOCH, name=name)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    stop_site(made.address)
    made.thread.join(10)
    made.baton.close()
    assert not made.thread.is_alive()


def test_sleep_moves_time_exactly_and_plays_the_world(place: Place) -> None:
    """A sleep ends at its exact moment, after every world event up to then was played in order."""
    played: list[int] = []
    for second in (3, 1, 2):
        place.timeline.at(second * SECOND, lambda second=second: played.append(second), "event")  # type: ignore[misc]
    clock = place.clock()
    clock.sleep(2.5)
    assert (clock.now().mono, played) == (2_500_000_000, [1, 2])
    assert clock.now().iso() == "2026-01-02T08:00:02.500000Z"
    clock.close()


def test_participants_take_turns_by_time_then_rank(place: Place) -> None:
    """At equal times the sampler goes before main, and the order is the same every time."""
    clock = place.clock()
    order: list[str] = []

    def side() -> None:
        for _ in range(5):
            clock.sleep(1)
            order.append(f"side {clock.now().mono // SECOND}")

    task = clock.spawn("side", side)
    for _ in range(5):
        clock.sleep(1)
        order.append(f"main {clock.now().mono // SECOND}")
    task.join()
    assert order == [f"{who} {second}" for second in range(1, 6) for who in ("side", "main")]
    clock.close()


def test_what_a_side_thread_raises_is_raised_by_join(place: Place) -> None:
    """An error beside the main thread is not lost."""
    clock = place.clock()

    def side() -> None:
        clock.sleep(1)
        raise ValueError("seen")

    with pytest.raises(ValueError, match="seen"):
        clock.spawn("side", side).join()
    clock.close()


def test_a_silent_port_costs_exactly_the_patience(place: Place) -> None:
    """Waiting for a port that never answers lasts until the deadline in site time, while others run on."""
    clock = place.clock()
    place.silent.add(4711)
    ticks: list[int] = []

    def bystander() -> None:
        for _ in range(5):
            clock.sleep(1)
            ticks.append(clock.now().mono // SECOND)

    task = clock.spawn("bystander", bystander)
    broken = threading.Event()

    def wait() -> None:
        broken.wait()
        raise ConnectionResetError

    with pytest.raises(TimedOut), clock.guard(clock.deadline(5), broken.set, [4711]):
        wait()
    assert clock.now().mono == 5 * SECOND
    task.join()
    assert ticks == [1, 2, 3, 4, 5]
    clock.close()


def test_an_answer_that_takes_site_time_comes_after_it(place: Place) -> None:
    """A server that parks lets others run; the requester has its answer at the exact moment."""
    clock = place.clock()
    answer = threading.Event()

    def server() -> None:
        place.baton.park(30)
        answer.set()

    with clock.guard(clock.deadline(60), lambda: None, [1]):
        threading.Thread(target=server, daemon=True).start()
        assert answer.wait(10)
    assert clock.now().mono == 30 * SECOND
    clock.close()


def test_patience_shorter_than_the_answer_gives_up_and_tells_the_server(place: Place) -> None:
    """When the requester's deadline comes first, the server learns that nobody waits any more."""
    clock = place.clock()
    gone, broken = threading.Event(), threading.Event()

    def server() -> None:
        try:
            place.baton.park(30)
        except Gone:
            gone.set()

    def ask() -> None:
        threading.Thread(target=server, daemon=True).start()
        broken.wait()
        raise ConnectionResetError

    with pytest.raises(TimedOut), clock.guard(clock.deadline(4), broken.set, [1]):
        ask()
    assert clock.now().mono == 4 * SECOND
    assert gone.wait(10)
    clock.close()


def test_who_is_hung_up_on_in_the_moment_of_the_deadline_has_timed_out(place: Place) -> None:
    """The server learns of it at the same time, and which of the two the requester hears first decides nothing."""
    clock = place.clock()
    for _ in range(100):
        hung_up = threading.Event()

        def server(hung_up: threading.Event = hung_up) -> None:
            with suppress(Gone):
                place.baton.park(30)
            hung_up.set()

        def ask(hung_up: threading.Event = hung_up) -> None:
            threading.Thread(target=server, daemon=True).start()
            hung_up.wait()
            raise ConnectionResetError

        with pytest.raises(TimedOut), clock.guard(clock.deadline(4), lambda: None, [1]):
            ask()
    assert clock.now().mono == 400 * SECOND
    clock.close()


def test_a_quick_answer_costs_no_site_time(place: Place) -> None:
    """A call that is answered at once leaves time where it was, and an own error stays what it is."""
    clock = place.clock()
    with clock.guard(clock.deadline(4), lambda: None, [1]):
        pass
    with pytest.raises(KeyError), clock.guard(clock.deadline(4), lambda: None, [1]):
        raise KeyError
    assert clock.now().mono == 0
    clock.close()


def test_connects_to_silent_ports_wait_and_others_do_not(place: Place) -> None:
    """Decided connects are told apart from those that got no answer by the end."""
    clock = place.clock()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as good, socket.socket() as bad:
        good.setblocking(False)
        good.connect_ex(server.getsockname())
        place.silent.add(4711)
        decided = clock.connected({good.fileno(): server.getsockname()[1], bad.fileno(): 4711}, SECOND)
        assert decided == {good.fileno(): Decided(0, connected=True)}
        assert clock.now().mono == SECOND
    clock.close()


def test_an_interrupt_ends_the_present_sleep(place: Place) -> None:
    """A signal makes the wait raise at once, without site time passing."""
    clock = place.clock()
    previous = signal.signal(signal.SIGUSR1, lambda *_: clock.interrupt())
    place.timeline.at(SECOND, lambda: os.kill(os.getpid(), signal.SIGUSR1), "signal")
    holding = threading.Event()
    place.timeline.at(2 * SECOND, lambda: holding.wait(0.3) and None, "hold")
    try:
        with pytest.raises(Interrupted):
            clock.sleep(3600)
        assert clock.now().mono < 3600 * SECOND
    finally:
        signal.signal(signal.SIGUSR1, previous)
    clock.close()


def test_healing_is_not_interrupted(place: Place) -> None:
    """While shielded an interrupt is kept back; the next wait after it raises."""
    clock = place.clock()
    with clock.shielded():
        clock.interrupt()
        clock.sleep(10)
    assert clock.now().mono == 10 * SECOND
    with pytest.raises(Interrupted):
        clock.sleep(1)
    clock.close()


def test_a_second_run_is_refused(place: Place) -> None:
    """Only one main participant at a time; the message names the process that holds the site."""
    clock = place.clock()
    with pytest.raises(SiteBusy, match=str(os.getpid())):
        place.clock()
    clock.close()


def test_time_stands_while_nobody_is_there(place: Place) -> None:
    """World events stay queued after the last participant left, and go on with the next."""
    played: list[str] = []
    place.timeline.at(5 * SECOND, lambda: played.append("event"), "event")
    clock = place.clock()
    clock.sleep(1)
    clock.close()
    assert played == []
    again = place.clock()
    assert again.now().mono == SECOND
    again.sleep(10)
    assert played == ["event"]
    again.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from pytest_pveha.simclock import SiteClock
clock = SiteClock(Path(sys.argv[1]), 0)
task = clock.spawn("side", lambda: clock.sleep(1000))
clock.sleep(10)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_buried_whole(place: Place) -> None:
    """After kill -9 time stands where the run died, although its side thread was asleep; the next run goes on there."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(place.address)], check=False)
    assert done.returncode == -signal.SIGKILL
    clock = place.clock()
    assert clock.now().mono == 10 * SECOND
    clock.close()


def test_a_site_that_ended_is_named(tmp_path: Path) -> None:
    """Attaching to a site that is not there says so."""
    with pytest.raises(Unreachable, match="does not answer"):
        SiteClock(tmp_path / "nothing", EPOCH)


def test_a_refused_run_and_an_ended_site_leave_no_descriptor_open(tmp_path: Path) -> None:
    """Who is refused lets go of its socket, and a closed baton of all of its own."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    made = Place(tmp_path)
    clock = made.clock()
    with pytest.raises(SiteBusy):
        made.clock()
    clock.close()
    stop_site(made.address)
    made.thread.join(10)
    made.baton.close()
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
