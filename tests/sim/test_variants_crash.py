"""Healthy sites on which crashes and watchdogs are accepted, whatever the watchdog and kernel.panic are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import whole_run

MINE = "kernel_crash or hang or watchdog"
HARDWARE, BMCS_OWN = {"watchdog": "iTCO_wdt"}, {"bmcs": [{"owns_watchdog": True}]}


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


@pytest.mark.parametrize(
    ("chosen", "simulator"),
    [
        pytest.param("kernel_crash", {"boot_seconds": 40} | HARDWARE, id="hardware"),
        pytest.param("starved", {"boot_seconds": 40}, id="starved"),
        pytest.param("starved", {"boot_seconds": 40} | BMCS_OWN, id="starved-bmc"),
        pytest.param(MINE, {}, id="softdog-0", marks=pytest.mark.proof),
        pytest.param(MINE, {"kernel_panic": 10}, id="softdog-10", marks=pytest.mark.proof),
        pytest.param(MINE, HARDWARE, id="hardware-0", marks=pytest.mark.proof),
        pytest.param(
            MINE, HARDWARE | {"kernel_panic": 10, "boot_seconds": 20}, id="back-at-once", marks=pytest.mark.proof
        ),
        pytest.param(MINE, BMCS_OWN | {"seed": 7}, id="bmc-0", marks=pytest.mark.proof),
    ],
)
def test_a_healthy_site_is_accepted(chosen: str, simulator: dict[str, Any], here: whole_run.Place) -> None:
    """Every test that is about this site is accepted."""
    outcome = whole_run.run(here.inventory(**simulator), here, "-k", chosen)
    tests = {
        test["id"]: (test["verdict"], test["reason"])
        for test in outcome.verdict["tests"]
        if "suites/nodes" in test["id"]
    }
    ran = {name: said for name, said in tests.items() if "not selected" not in said[1]}
    assert ran
    assert {name: said for name, said in ran.items() if said[0] not in ("accepted", "not applicable")} == {}
    assert "watchdog" in " ".join(said[1] for said in ran.values()) or "kernel_crash" in chosen
    told = [line.data["new"] for line in outcome.journal if line.data.get("what", "").startswith("bmc_log/")]
    assert ("watchdog reset" in told) is ("bmcs" in simulator)


def test_an_idle_lrm_proves_nothing(here: whole_run.Place) -> None:
    """A node without HA guests has no active LRM: not proven, and nothing was broken."""
    alone = [{"id": f"vm:{number}", "node": "pve1"} for number in range(101, 107)]
    outcome = whole_run.run(here.inventory(guests=alone, seed=1), here, "-k", "starved", "--pveha-scope=all")
    verdicts = {test["verdict"] for test in outcome.verdict["tests"] if "starved" in test["id"]}
    assert "not proven" in verdicts
    assert verdicts <= {"not proven", "accepted"}
