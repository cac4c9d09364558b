"""Defects of BMCs seen from the nodes, and of single guests: each is caught by its suite and named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import whole_run
from whole_run import ROOT

from pytest_pveha.sim.defects import DEFECTS
from tests.mutants.test_defects import EXIT, assert_left_whole

FENCING = (
    "suites/fencing/test_fence_paths.py",
    "suites/guests/test_each_guest.py",
    "suites/nodes/test_physical_power_cut.py",
)

PATHS = "test_every_node_reaches_every_bmc"
PEER = "test_a_peer_cuts_the_power[other-1]"


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the test that finds it, the verdict, and the cause that is named."""

    test: str
    verdict: str
    cause: str
    """A regular expression; what is not in the reason was not said to the person on call."""
    played: dict[str, Any] = field(default_factory=dict)
    """What else the simulated site has."""
    blocks: dict[str, Any] = field(default_factory=dict)
    """Whole blocks of its inventory."""


FULL = {
    "guests": [
        {"id": f"vm:{number}", "tier": "gold", "preferred_node": node}
        for number, node in enumerate(["pve1", *["pve2"] * 18, "pve3"], 101)
    ],
    "objectives": {"tiers": {"gold": {"rto": "5 min"}}, "settle": "40 min"},
}
"""pve2 runs eighteen guests, and the others start eight at once. One at a time, they take long to go home as well."""
SLOW_STARTS = [{"id": f"vm:{number}", "start_seconds": 20} for number in range(102, 120)]

CAUGHT = {
    "max-workers-one": Caught(
        "test_in_its_turn_after_others[fullest]",
        "rejected",
        r"recovery_in_turn of vm:\d+ is 3\d\d(\.\d)? s .*, objective at most 300 s: its application answered too late: "
        r"it was recovered, and had to wait for its turn to start \(started on pve\d behind [678] of 8 others, ",
        {"guests": SLOW_STARTS, "guest_memory": "2 GiB"},
        FULL,
    ),
    "bmc-unreachable-from-one-node": Caught(
        PATHS,
        "rejected",
        r"broken_paths of cluster is 1, objective none: from there that node could not be fenced "
        r"\(pve1 → pve3: no answer in 11 s\); .*fence_path_time of cluster is more than 11 s",
    ),
    "bmc-user-may-not-switch": Caught(
        PATHS,
        "rejected",
        r"broken_paths of cluster is 2, .*pve1 → pve3: RAKP 2 message indicates an error : unauthorized role or "
        r"privilege level",
    ),
    "bmc-slow": Caught(PATHS, "rejected", r"broken_paths of cluster is 2, .*pve2 → pve3: no answer in 11 s"),
    "bmc-address-taken": Caught(
        PATHS,
        "rejected",
        r"wrong_machines of cluster is 1, objective none: fencing from there would hit another machine "
        r"\(pve1 → pve3: the BMC reached is not pve3's own: MAC address: the BMC says [\d:]+, pve3 has",
    ),
    "fence-tool-missing": Caught(
        PATHS, "inconclusive", r"pve3 → pve1: ipmitool is not installed there; on pve3 type: apt-get install ipmitool"
    ),
    "guest-not-restarted-after-kill": Caught(
        "test_killed[vm:101]",
        "rejected",
        r"vm:101 is started again on pve1: not within 180 s; last seen: no process of vm:101 on pve1",
    ),
    "guest-migration-fails": Caught(
        "test_migrated_there_and_back[vm:101]",
        "rejected",
        r"vm:101 runs on pve2: not within 1200 s; last seen: vm:101 is started on pve1; its last try there: migration "
        r"aborted",
    ),
    "pdu-switches-wrong-outlet": Caught(
        "test_physical_power_cut[other-1]",
        "rejected",
        r"(pve\d) was lost too, while only pve\d was to be: healed at once, the campaign ends",
        {"pdus": True},
    ),
    "operator-pulls-wrong-cord": Caught(
        "test_physical_power_cut[other-1]",
        "invalid",
        r"pve\d lost its power when the cord of (pve\d) was to be pulled, and \1 lives: the wrong machine's cord",
        {"operator": {}},
    ),
    "operator-leaves-second-cord": Caught(
        "test_physical_power_cut[other-1]",
        "invalid",
        r"cord-pulled-1 did not bite, .*: pve\d still answers at .*; is one of its cords still in\?",
        {"operator": {}},
    ),
    "operator-never-answers": Caught(
        "test_physical_power_cut[other-1]",
        "not proven",
        r"the simulated operator gave no answer in 900 s .*`pveha answer RUN cord-pulled-1-ready`",
        {"operator": {}},
    ),
    "bmc-refuses-peers": Caught(
        PEER,
        "rejected",
        r"the BMC of pve\d refused the power command of pve\d: Set Chassis Power Control to Down/Off failed: "
        r"Insufficient privilege level",
    ),
}


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_of_these_suites_is_in_the_table() -> None:
    """No defect can be planted that nothing is expected of, and what is expected is what the registry promises."""
    assert {name: caught.verdict for name, caught in CAUGHT.items()} == {
        name: defect.verdict for name, defect in DEFECTS.items() if defect.caught_by in FENCING
    }


@pytest.mark.parametrize("name", CAUGHT)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """With that defect the test fails with the promised verdict, names the cause, and leaves a whole site."""
    caught = CAUGHT[name]
    suite = DEFECTS[name].caught_by
    inventory = here.inventory(caught.blocks, defects=[name], boot_seconds=40, **caught.played)
    marks = "readiness" if caught.test == PATHS else "destructive"
    outcome = whole_run.run(inventory, here, "-m", marks, "-k", caught.test, suites=ROOT / suite)
    (test,) = (test for test in outcome.verdict["tests"] if test["id"] == f"{suite}::{caught.test}")
    assert test["verdict"] == caught.verdict, test["reason"]
    assert re.search(caught.cause, test["reason"]), test["reason"]
    assert outcome.exit_code == (EXIT | {"inconclusive": 6})[caught.verdict], outcome.output
    assert caught.verdict.upper() in outcome.output
    assert_left_whole(outcome, here)
