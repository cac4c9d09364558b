"""The tool can fail: bonds that would notice too late are found before anything is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import whole_run

from pytest_pveha.sim.defects import DEFECTS

SUITE = "suites/readiness/test_bonds.py"
BONDED: dict[str, Any] = {
    "bonds": {
        "bond0": {"members": ["eno1", "eno2"], "mode": "active-backup", "carries": ["guest"]},
        "bond1": {"members": ["eno3", "eno4"], "carries": ["corosync0"]},
    }
}
"""Every node has two: one that negotiates, and one that does not."""


@dataclass(frozen=True)
class Caught:
    """How a defect shows."""

    check: str
    cause: str
    """A regular expression."""
    simulator: dict[str, Any]


CAUGHT = {
    "lacp-slow": Caught(
        "lacp-rate",
        r"pve1: bond1 \(slow\); pve2: bond1 \(slow\); pve3: bond1 \(slow\): a partner that dies silently is missed "
        r"after 3 × 30 s = 90 s, .* after token 3\.125 s \+ consensus 3\.75 s = 6\.9 s, and a node without quorum is "
        r"reset after 60 s, so it would be fenced 30 s before its bond moves over",
        BONDED,
    ),
}


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_of_bonds_is_in_the_table() -> None:
    """What is expected is what the registry promises."""
    promised = {name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by == SUITE}
    assert promised == dict.fromkeys(CAUGHT, "rejected")


@pytest.mark.parametrize("name", CAUGHT)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """Its check alone says no, with the arithmetic; the other one is accepted."""
    caught = CAUGHT[name]
    inventory = here.inventory(defects=[name], **caught.simulator)
    outcome = whole_run.run(inventory, here, "-m", "readiness", suites=whole_run.ROOT / SUITE)
    found = {test["id"].rpartition("[")[2].removesuffix("]"): test for test in outcome.verdict["tests"]}
    test = found.pop(caught.check)
    assert (test["verdict"], outcome.exit_code) == ("rejected", 1), outcome.output
    assert re.search(caught.cause, test["reason"]), test["reason"]
    assert {each["verdict"] for each in found.values()} == {"accepted"}


@pytest.mark.parametrize("simulator", [BONDED, {}], ids=["bonded", "single"])
def test_bonds_that_are_as_they_must_be(simulator: dict[str, Any], here: whole_run.Place) -> None:
    """Both checks say yes, of bonds and where there are none."""
    suite = whole_run.ROOT / SUITE
    outcome = whole_run.run(here.inventory(**simulator), here, "-m", "readiness", suites=suite)
    assert [test["verdict"] for test in outcome.verdict["tests"]] == ["accepted"] * 2, outcome.output
