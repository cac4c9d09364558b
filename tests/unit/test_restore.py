"""What HA does not bring back by itself is asked for: moved or started, each at most once a minute."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Deadline, Instant, LiveClock
from pytest_pveha.faults.restore import _request
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.snapshot import Snapshot

NOW = LiveClock().now()

FOUND = Snapshot(
    cluster="c",
    quorate=True,
    nodes={"pve1": "online", "pve2": "online"},
    services={"vm:101": "started@pve1", "vm:105": "ignored@pve1"},
    guests={
        "vm:101": "running@pve1",
        "ct:102": "running@pve1",
        "vm:103": "stopped@pve1",
        "vm:104": "paused@pve1",
        "vm:105": "running@pve1",
    },
    boot_ids={},
)


@dataclass
class Site:
    """A site that writes down what it is asked for."""

    mono: int = 0
    asked: list[str] = field(default_factory=list)

    @property
    def clock(self) -> Any:
        return self

    @property
    def cluster(self) -> Any:
        return self

    def now(self) -> Instant:
        return replace(NOW, mono=self.mono)

    def deadline(self, seconds: float) -> Deadline:
        return LiveClock().deadline(seconds)

    def migrate(self, sid: str, node: str, deadline: Deadline) -> None:
        self.asked.append(f"migrate {sid} {node}")

    def request(self, sid: str, state: str, deadline: Deadline) -> None:
        self.asked.append(f"{state} {sid}")

    def start(self, sid: str, node: str, deadline: Deadline) -> None:
        self.asked.append(f"start {sid} {node}")


@dataclass
class Eyes:
    site: Site


@pytest.mark.parametrize(
    ("services", "guests", "asked"),
    [
        ({}, {}, []),
        ({}, {"ct:102": "stopped@pve1"}, ["start ct:102 pve1"]),
        ({}, {"vm:105": "stopped@pve1"}, ["start vm:105 pve1"]),
        ({}, {"vm:103": "running@pve1"}, []),
        ({}, {"vm:104": "stopped@pve1"}, []),
        ({}, {"ct:102": "stopped@pve2"}, []),
        ({"vm:101": "started@pve2"}, {"vm:101": "running@pve2"}, ["migrate vm:101 pve1"]),
        ({"vm:101": "stopped@pve1"}, {"vm:101": "stopped@pve1"}, ["start vm:101 pve1"]),
        ({"vm:101": "stopped@pve2"}, {"vm:101": "stopped@pve2"}, ["start vm:101 pve2"]),
        ({"vm:101": "error@pve2"}, {"vm:101": "stopped@pve2"}, ["disabled vm:101"]),
    ],
)
def test_what_ran_is_asked_for_and_nothing_else(
    services: dict[str, str], guests: dict[str, str], asked: list[str]
) -> None:
    """A guest that ran runs again, HA or not, VM or container; one that did not run is never started."""
    site = Site()
    now = replace(FOUND, services={**FOUND.services, **services}, guests={**FOUND.guests, **guests})
    _request(cast("Observer", Eyes(site)), FOUND, now, {})
    assert site.asked == asked


def test_each_is_asked_for_at_most_once_a_minute() -> None:
    """While a request is under way it is not made again, from the first moment of a clock on."""
    site, asked = Site(), dict[str, int]()
    now = replace(FOUND, guests={**FOUND.guests, "ct:102": "stopped@pve1"})
    for second in range(0, 125, 5):
        site.mono = second * SECOND
        _request(cast("Observer", Eyes(site)), FOUND, now, asked)
    assert site.asked == ["start ct:102 pve1"] * 2
