"""Planted defects of watchdogs and kernels: each is caught by its suite, with its verdict and its cause in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import whole_run

from pytest_pveha.sim.defects import DEFECTS
from tests.mutants.test_defects import EXIT, assert_left_whole, assert_said_everywhere

SUITES = tuple(f"suites/nodes/test_{name}.py" for name in ("hang", "kernel_crash", "watchdog"))
DURATION = r"\d+(\.\d)? s \(\d+(\.\d)? to \d+(\.\d)?\)"


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the test that brings it out, the verdict, and the cause that is named."""

    test: str
    role: str
    verdict: str
    cause: str
    simulator: dict[str, Any] = field(default_factory=dict)
    of_the_run: str = ""
    """The run's verdict, where the gate's own is worse."""


MUX, LRM = "other-1-watchdog-mux", "other-1-pve-ha-lrm"
KILLED, STARVED = "killed_daemon", "starved_lrm"
CAUGHT = {
    "watchdog-never-bites": Caught(
        KILLED, LRM, "rejected", r"node pve\d falls silent: not within 180 s; last seen: pve\d lives on: it answers"
    ),
    "watchdog-bites-late": Caught(
        KILLED,
        MUX,
        "rejected",
        rf"reset_after of pve\d is {DURATION}, objective at most 12 s \(watchdog: Software Watchdog, the kernel's own "
        r"timer\): its watchdog was later than it may be",
    ),
    "watchdog-device-taken": Caught(
        KILLED, MUX, "not proven", r"LRM", {"nodes": [{"name": "pve3"}]}, of_the_run="rejected"
    ),
    "mux-restarts-itself": Caught(
        KILLED, MUX, "rejected", r"node pve\d falls silent: not within 180 s; last seen: pve\d lives on: it answers"
    ),
    "kernel-panic-hangs": Caught(
        "kernel_crash",
        "other-1",
        "rejected",
        r"restarts as it is set to: not within 900 s; last seen: pve\d is dark, though it is set to restart "
        r"\(kernel.panic is 10, its watchdog is Software Watchdog\)",
        {"kernel_panic": 10},
    ),
    "panic-takes-others": Caught(
        "kernel_crash",
        "other-1",
        "rejected",
        r"(pve\d) was lost too, while only pve\d was to be",
        {"kernel_panic": 10},
    ),
    "half-alive-node": Caught(
        "hang",
        "other-1",
        "rejected",
        r"half_alive of pve\d is 2, objective none: a guest was started elsewhere while its old node still lived",
    ),
}


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_is_in_the_table() -> None:
    """What these suites are promised to catch is what is expected of them here, verdict by verdict."""
    promised = {name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by in SUITES}
    assert {name: caught.verdict for name, caught in CAUGHT.items()} == promised


@pytest.mark.parametrize("name", CAUGHT)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """With that defect its test gives the promised verdict, names the cause everywhere, and leaves a whole site."""
    caught = CAUGHT[name]
    inventory = here.inventory(defects=[name], boot_seconds=40, **caught.simulator)
    suite = whole_run.ROOT / DEFECTS[name].caught_by
    outcome = whole_run.run(inventory, here, "-k", f"{caught.test} and {caught.role}", suites=suite)
    test = outcome.test(caught.role)
    assert test["verdict"] == caught.verdict, test["reason"]
    assert re.search(caught.cause, test["reason"]), test["reason"]
    overall = caught.of_the_run or caught.verdict
    assert (outcome.verdict["verdict"], outcome.exit_code) == (overall, EXIT[overall]), outcome.output
    assert_said_everywhere(outcome, test)
    assert_left_whole(outcome, here)
