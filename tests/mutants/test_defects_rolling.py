"""Planted defects of updates, node by node: each is caught by the suite, cause and all, and the site is left whole."""

from __future__ import annotations

import re

import pytest
import whole_run
from whole_run import ROOT

from pytest_pveha.sim.defects import DEFECTS
from tests.mutants.test_defects import assert_left_whole, assert_said_everywhere

SUITE = "suites/upgrade/test_rolling.py"
TEST = "test_rolling_restart_of_ha"
CAUGHT = {
    "node-left-behind": r"every node has the same version: not within 60 s; last seen: .*pve3: 9\.1\.0, kernel",
    "restart-kills-guests": r"vm:\d+ ran on (pve\d) and is stopped on \1, while it was not to be touched",
    "watchdog-nearly-fires": r"audit bad_news found harm: pve1: a watchdog had nearly fired: watchdog-mux: client",
}
"""What is said of the cause, as a regular expression."""


def test_every_defect_of_the_suite_is_in_the_table() -> None:
    """No defect can be planted that nothing is expected of."""
    assert CAUGHT.keys() == {name for name, defect in DEFECTS.items() if defect.caught_by == SUITE}


@pytest.mark.parametrize("name", CAUGHT)
def test_the_defect_is_caught_and_named(name: str) -> None:
    """With that defect the restart of HA fails with the promised verdict, and names the cause everywhere."""
    with whole_run.place() as here:
        outcome = whole_run.run(here.inventory(defects=[name]), here, "-k", TEST, suites=ROOT / SUITE)
        (test,) = (each for each in outcome.verdict["tests"] if each["id"].endswith(TEST))
        assert test["verdict"] == DEFECTS[name].verdict, test["reason"]
        assert re.search(CAUGHT[name], test["reason"]), test["reason"]
        assert_said_everywhere(outcome, test)
        assert_left_whole(outcome, here)
