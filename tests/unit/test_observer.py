"""What the run's eyes write down can be used by the judge."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.handles.node import Node, Processes
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer


class StandingClock:
    """Always the same moment."""

    def now(self) -> Instant:
        return Instant(100 * SECOND, 0)

    def deadline(self, seconds: float) -> None:
        del seconds


@pytest.mark.parametrize(
    ("age", "starts"),
    [
        (30, [(69 * SECOND, 70 * SECOND)]),
        (100, [(0, 0)]),
        (101, []),
        (90 * 86400, []),
    ],
)
def test_a_process_older_than_our_clock_has_no_start_by_it(age: int, starts: list[tuple[int, int]]) -> None:
    """A guest that ran before the controller's clock began at zero is noted as running, without a start."""
    written: list[tuple[str, dict[str, Any]]] = []
    clock = StandingClock()
    site = cast("Site", SimpleNamespace(clock=clock, guests=SimpleNamespace(sids=("vm:101",))))
    seen = Processes({"vm:101": age}, clock.now(), clock.now())
    node = cast("Node", SimpleNamespace(name="pve1", processes=lambda deadline: seen))

    Observer(site, lambda kind, data: written.append((kind, data))).processes(node)

    assert next(data["what"] for _, data in written) == "process/vm:101@pve1"
    assert [(data["low"], data["high"]) for _, data in written if data["what"].startswith("process_start/")] == starts
    assert all(0 <= data["low"] <= data["high"] for _, data in written)
