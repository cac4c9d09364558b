"""The sampler in its own process: what it heard comes back, with moments of this host's clock."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from pytest_pveha.clock import SECOND, LiveClock
from pytest_pveha.observe.sampler import Probe
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
