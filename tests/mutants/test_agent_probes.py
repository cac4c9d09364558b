"""Guests with an ``agent`` probe in whole runs: it is asked, and what it says counts."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import pytest
import whole_run
from whole_run import ROOT, Outcome

GUESTS: list[dict[str, Any]] = [
    {"id": f"vm:{number}", "tier": "gold", "preferred_node": f"pve{node}", "probes": [{"agent": True}]}
    for number, node in ((101, 1), (103, 2), (105, 3))
]


def lost(*defects: str) -> Outcome:
    """A power loss of one node, on a site whose guests have agents to ask."""
    with whole_run.place() as here:
        inventory = here.inventory({"guests": GUESTS}, defects=list(defects), boot_seconds=40, guests=[])
        suite = ROOT / "suites" / "nodes" / "test_power_loss.py"
        return whole_run.run(inventory, here, "-k", "other-1", suites=suite)


def test_an_agent_that_is_back_is_seen() -> None:
    """It answered before, not during, and again after: in the journal, and the guest's recovery is accepted."""
    outcome = lost()
    assert outcome.test("other-1")["verdict"] == "accepted", outcome.output
    said = [line.data for line in outcome.journal if line.kind == "samples" and line.data["probe"].startswith("agent:")]
    assert {line["subject"] for line in said} == {"vm:101", "vm:103", "vm:105"}
    (away,) = {line["subject"] for line in said if line["answer"] == "bad"}
    of_it = [line["answer"] for line in said if line["subject"] == away and line["answer"] != "unknown"]
    assert [answer for answer, _ in groupby(of_it)] == ["good", "bad", "good"]


@pytest.mark.parametrize("defect", ["agent-hangs-after-recovery"])
def test_an_agent_that_does_not_come_back_is_a_guest_that_does_not(defect: str) -> None:
    """The application answers, and what is inside does not: it is not recovered."""
    outcome = lost(defect)
    test = outcome.test("other-1")
    assert test["verdict"] == "rejected", test["reason"]
    assert re.search(r"1 guests answer again: not within 1200 s; last seen: no answer from vm:\d+", test["reason"])
