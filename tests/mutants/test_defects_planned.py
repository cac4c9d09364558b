"""Planted defects of nodes that go down, rest and come back in good order: each caught by its suite, cause and all."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pytest
import whole_run
from whole_run import ROOT

from pytest_pveha.sim.defects import DEFECTS
from tests.mutants.test_defects import assert_left_whole, assert_said_everywhere

SUITES = (
    "suites/nodes/test_clean_reboot.py",
    "suites/nodes/test_maintenance.py",
    "suites/nodes/test_failback.py",
)
RULES = {
    f"of-{node}": {"affinity": "node", "guests": guests, "nodes": {node: 1}}
    for node, guests in {
        "pve1": ["vm:101", "vm:102"],
        "pve2": ["vm:103", "vm:104"],
        "pve3": ["vm:105", "vm:106"],
    }.items()
}
"""Where each guest belongs."""
PAIRS = {
    f"pair-{first}": {"affinity": "positive", "guests": [f"vm:{first}", f"vm:{first + 1}"]} for first in (101, 103, 105)
}
STAYING = [
    *({"id": f"vm:{vmid}", "failback": False} for vmid in range(101, 107)),
    {"id": "vm:107", "name": "build-box", "node": "pve3", "ha": False},
]


@dataclass(frozen=True)
class Caught:
    """How a defect shows: the test that brings it out, and the cause that is named."""

    test: str
    cause: str
    site: dict[str, Any] = field(default_factory=dict)
    """How the simulated site is set for it to show."""
    blocks: dict[str, Any] = field(default_factory=dict)
    """What the inventory must have for it to show."""


FIVE_NODES = {
    "nodes": {f"pve{number}": {"room": "abc"[number % 3]} for number in range(1, 6)},
    "guests": [
        {"id": f"vm:{100 + number}", "tier": "gold", "preferred_node": f"pve{number}"} for number in range(1, 6)
    ],
}

CONDITIONAL = {"shutdown_policy": "conditional"}
MIGRATE = {"shutdown_policy": "migrate"}

LONG = {"guest-cannot-migrate", "guest-lost-on-shutdown", "policy-not-obeyed", "shutdown-hangs", "stays-frozen"}
"""Their runs take twenty seconds and more: played in the proof."""
CAUGHT = {
    "stays-frozen": Caught(
        "test_clean_reboot[other-1]",
        r"2 guests are started on (pve\d): not within 600 s; last seen: vm:\d+ is freeze on \1",
        CONDITIONAL,
    ),
    "guest-cannot-migrate": Caught(
        "test_clean_reboot[other-1]", r"2 guests are started on .*: not within 900 s; last seen: vm:\d+ is ", MIGRATE
    ),
    "guest-lost-on-shutdown": Caught(
        "test_clean_reboot[other-1]",
        r"2 guests are started on (pve\d): not within 600 s; last seen: vm:\d+ is stopped on \1",
        CONDITIONAL,
    ),
    "shutdown-hangs": Caught(
        "test_clean_reboot[other-1]",
        r"the cluster notices that (pve\d) is gone: not within 600 s; last seen: \1 is still a member",
        MIGRATE,
    ),
    "reboot-trips-watchdog": Caught(
        "test_clean_reboot[other-1]",
        r"the LRM of pve\d never closed its watchdog: the node was reset on its way down",
        CONDITIONAL,
    ),
    "policy-not-obeyed": Caught(
        "test_clean_reboot[other-1]", r"2 guests are started on .*: not within 900 s; last seen: vm:\d+ is ", MIGRATE
    ),
    "maintenance-not-left": Caught(
        "test_maintenance_on_and_off[other-1]",
        r"time_to_leave of cluster is 3\d\d(\.\d)? s .*, objective at most 60 s: maintenance was over, and HA kept",
    ),
    "maintenance-blocks-fencing": Caught(
        "test_loss_while_another_node_is_off[other-1]",
        r"node (pve\d) is fenced: not within 360 s; last seen: node \1 is unknown; still there: vm:\d+ started",
        {"guests": []},
        FIVE_NODES,
    ),
    "nofailback-ignored": Caught(
        "test_failback[other-1]",
        r"misplaced of vm:\d+ is 1, objective none: it is not where its HA rule wants it",
        {"rules": RULES, "guests": STAYING},
    ),
    "pair-parted": Caught(
        "test_failback[other-1]",
        r"last seen: to be kept on one node: vm:\d+ on pve\d, vm:\d+ on pve\d",
        {"rules": PAIRS},
    ),
    "guest-to-and-fro": Caught(
        "test_failback[other-1]", r"moves of vm:\d+ is \d, objective at most 1: it went to and fro", {"rules": RULES}
    ),
}


def test_every_defect_is_in_the_table() -> None:
    """What is expected is what the registry promises: rejected, each by the suite that it names."""
    mine = {name: defect for name, defect in DEFECTS.items() if defect.caught_by in SUITES}
    assert CAUGHT.keys() == mine.keys()
    assert {defect.verdict for defect in mine.values()} == {"rejected"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.proof if name in LONG else ()) for name in CAUGHT]
)
def test_the_defect_is_caught_and_named(name: str) -> None:
    """With that defect its test is rejected, the cause is named everywhere, and the site is left whole."""
    caught = CAUGHT[name]
    with whole_run.place() as here:
        inventory = here.inventory(caught.blocks, defects=[name], boot_seconds=40, **caught.site)
        suite = ROOT / DEFECTS[name].caught_by
        outcome = whole_run.run(inventory, here, "-k", caught.test.partition("[")[0] + " and other", suites=suite)
        assert (outcome.verdict["verdict"], outcome.exit_code) == ("rejected", 1), outcome.output
        (test,) = (each for each in outcome.verdict["tests"] if each["id"].endswith(f"::{caught.test}"))
        assert test["verdict"] == "rejected", test["reason"]
        assert re.search(caught.cause, test["reason"]), test["reason"]
        assert_said_everywhere(outcome, test)
        assert_left_whole(outcome, here)
