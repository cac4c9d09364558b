"""Planted defects in a recovery in which something else goes wrong: what is not survived is seen, cause and all."""

from __future__ import annotations

import re

import pytest
import whole_run
from whole_run import ROOT

from tests.mutants.test_defects import assert_left_whole, assert_said_everywhere
from tests.mutants.test_defects_planned import FIVE_NODES

SUITE = ROOT / "suites" / "combined"
DIES, SECOND = "test_a_guest_dies_meanwhile", "test_a_second_node_is_lost_meanwhile"
CAUGHT = {
    (DIES, "guest-not-restarted-after-kill"): r"vm:\d+ is started again on (pve\d): not within 180 s",
    (SECOND, "slow-recovery"): r"downtime of vm:\d+ is .* its application was away too long|answer again: not within",
}
"""Test and defect → what is said of the cause."""


@pytest.mark.parametrize(("test", "defect"), CAUGHT)
def test_the_defect_is_caught_and_named(test: str, defect: str) -> None:
    """The test is rejected, says why, and leaves the site whole."""
    blocks = FIVE_NODES if test == SECOND else {}
    extra = {"guests": []} if test == SECOND else {}
    with whole_run.place() as here:
        inventory = here.inventory(blocks, boot_seconds=40, defects=[defect], **extra)
        outcome = whole_run.run(inventory, here, "-k", test, suites=SUITE)
        (found,) = (each for each in outcome.verdict["tests"] if test in each["id"])
        assert found["verdict"] == "rejected", found["reason"]
        assert re.search(CAUGHT[test, defect], found["reason"]), found["reason"]
        assert_said_everywhere(outcome, found)
        assert_left_whole(outcome, here)


@pytest.mark.parametrize("test", [DIES, SECOND])
def test_without_a_defect_it_is_accepted(test: str) -> None:
    """On a healthy site both faults are survived."""
    blocks, extra = (FIVE_NODES, {"guests": []}) if test == SECOND else ({}, {})
    with whole_run.place() as here:
        outcome = whole_run.run(here.inventory(blocks, boot_seconds=40, **extra), here, "-k", test, suites=SUITE)
        (found,) = (each for each in outcome.verdict["tests"] if test in each["id"])
        assert found["verdict"] == "accepted", found["reason"]
