"""The sampler in its own process: what it heard comes back, with moments of this host's clock."""

from __future__ import annotations

import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pytest_pveha.clock import SECOND, Decided, LiveClock
from pytest_pveha.observe.sampler import Probe, Sampler
from pytest_pveha.observe.sampling import SamplerProcess


class Heard:
    """Lines as they would go into the journal."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self._more = threading.Condition()

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        with self._more:
            self.lines.append((kind, data))
            self._more.notify_all()

    def wait(self, seen: Callable[[], bool]) -> None:
        with self._more:
            assert self._more.wait_for(seen, 30)

    def samples(self) -> list[dict[str, Any]]:
        return [data for kind, data in self.lines if kind == "samples"]


def test_an_outage_is_heard_with_its_moments() -> None:
    """Good before and bad after a port stops listening, in runs whose moments lie on this host's clock."""
    clock, heard = LiveClock(), Heard()
    asking = SamplerProcess(heard)
    begin = clock.now().mono
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asking.watch([Probe("tcp:vm:101", "vm:101", "127.0.0.1", port)])
        asking.fast()
        deadline = clock.deadline(30)
        while asking.good_since("vm:101") is None:
            assert not deadline.expired()
            clock.sleep(0.05)
        since = asking.good_since("vm:101")
        assert since is not None
        assert since >= begin
    heard.wait(lambda: any(row["answer"] == "good" for row in heard.samples()))
    while asking.good_since("vm:101") is not None:
        clock.sleep(0.05)
    asking.stop()
    assert not asking.alive
    rows = heard.samples()
    assert [row["answer"] for row in rows[:2]] == ["good", "bad"]
    assert rows[1]["saw"] == "ECONNREFUSED"
    assert begin <= rows[0]["first"] <= rows[0]["last"] < rows[1]["first"] <= clock.now().mono
    assert rows[1]["first"] - rows[0]["last"] < 5 * SECOND


def test_a_sampler_that_dies_is_missed() -> None:
    """A killed child is no longer alive, and the journal says that its probes are not covered."""
    heard = Heard()
    asking = SamplerProcess(heard)
    asking.watch([Probe("tcp:vm:101", "vm:101", "127.0.0.1", 9)])
    assert asking.alive
    assert asking._process is not None
    asking._process.send_signal(signal.SIGKILL)
    heard.wait(lambda: any(kind == "note" for kind, _ in heard.lines))
    assert "not covered" in next(data["text"] for kind, data in heard.lines if kind == "note")
    asking.stop()


class Scripted(LiveClock):
    """A clock whose connects end as told; whatever happens to them meanwhile happens first."""

    def __init__(self, decide: Callable[[int], dict[int, Decided]]) -> None:
        super().__init__()
        self._decide = decide

    def connected(self, pending: Mapping[int, int], until: int) -> dict[int, Decided]:
        (descriptor,) = pending
        return self._decide(descriptor)


def asked(clock: LiveClock, port: int, late: float) -> list[dict[str, Any]]:
    """The samples of one question that went out that much (of a period) after its time."""
    heard = Heard()
    sampler = Sampler(clock, heard)
    probe = Probe("tcp:vm:101", "vm:101", "127.0.0.1", port)
    now = clock.now().mono
    due = now - round(late * SECOND)
    sampler._ask([probe], due, due + SECOND)
    sampler._flush(probe)
    return heard.samples()


@pytest.mark.parametrize("late", [0.0, 0.5, 0.8, 1.2])
def test_who_is_asked_late_has_time_to_answer(late: float) -> None:
    """A question that we sent late is not given up at once: our own delay is not their silence."""
    given: list[int] = []

    class Patient(LiveClock):
        def connected(self, pending: Mapping[int, int], until: int) -> dict[int, Decided]:
            given.append(until - self.now().mono)
            return {}

    with socket.create_server(("127.0.0.1", 0)) as server:
        (row,) = asked(Patient(), server.getsockname()[1], late)
    assert row["answer"] == "bad"
    assert row["first"] <= row["first_out"] <= row["first_end"]
    assert given[0] >= 0.24 * SECOND


def test_a_connection_that_is_reset_later_was_made() -> None:
    """What counts is how the connect ended, at the moment it did; when all are looked at it may be over again."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset(descriptor: int) -> dict[int, Decided]:
            at = LiveClock().now().mono
            accepted, _ = server.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            poll = select.poll()
            poll.register(descriptor, 0)
            assert poll.poll(30_000)  # the reset has come
            return {descriptor: Decided(at, connected=True)}

        (row,) = asked(Scripted(reset), server.getsockname()[1], 0)
    assert (row["answer"], row["saw"]) == ("good", "connected")


def test_each_answer_has_its_own_end() -> None:
    """One that is silent does not hold up the others: their answers end when they came."""
    clock = LiveClock()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as good, socket.socket() as never:
        good.setblocking(False)
        good.connect_ex(server.getsockname())
        begun = clock.now().mono
        # a socket that was never connected is hung up; one that is only listening never becomes writable
        never.bind(("127.0.0.1", 0))
        never.listen()
        decided = clock.connected({good.fileno(): 1, never.fileno(): 2}, begun + SECOND // 2)
        assert clock.now().mono >= begun + SECOND // 2
    assert list(decided.values()) == [Decided(decided[next(iter(decided))].mono, connected=True)]
    assert next(iter(decided.values())).mono < begun + SECOND // 4
