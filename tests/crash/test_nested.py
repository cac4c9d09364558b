"""The crash matrix for faults inside of faults: a run that ends inside the inner one leaves a healthy site."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import whole_run
from ruamel.yaml import YAML
from stretched_site import BLOCKS
from stretched_site import PLAYED as STRETCHED
from test_crash import BY_HAND, LINES, Case, assert_healthy, healed_by, here, struck
from whole_run import Place

__all__ = ["here"]

SUITE = Path(__file__).with_name("nested_suite.py")
WAYS = ("kill", "kill-both", "abandoned", "sigterm")
NODES = dict.fromkeys(
    ("power-cut-in-partition", "power-cut-in-power-cut", "cord-pulled-in-mains-cut", "partition-in-power-cut"), 5
)
"""The sites that must have more than three nodes."""
PLAYED: dict[str, dict[str, Any]] = {
    "cord-pulled-in-mains-cut": {"pdus": True, "operator": {}},
    "link-loss-in-power-cut": {"links": 2},
}
"""What else the simulator of a site has."""
PAIRS = (
    "power-cut-in-partition",
    "power-cut-of-whom-is-cut-off",
    "power-cut-in-maintenance",
    "clean-reboot-in-maintenance",
    "power-cut-in-power-cut",
    "cord-pulled-in-mains-cut",
    "partition-in-power-cut",
    "link-loss-in-power-cut",
)


@dataclass(frozen=True)
class Nested(Case):
    """One cell; ``fault`` is the pair."""

    @property
    def test(self) -> str:
        return f"{SUITE}::test_{self.fault.replace('-', '_')}"

    @property
    def of(self) -> str:
        return f"{self.fault.partition('-in-')[0].partition('-of-')[0]}-2"


QUICK = ("power-cut-in-partition", "power-cut-in-maintenance")
"""Played in every test run; the others in the proof."""


def chosen() -> list[Any]:
    """Every test run plays a kill after each line of some pairs; the proof all of them."""
    found = []
    for cell in (Nested(pair, "after", line, way) for pair in PAIRS for line in LINES for way in WAYS):
        if cell.fault.startswith(BY_HAND) and cell.way == "abandoned":
            continue
        quick = cell.fault in QUICK and cell.way == "kill"
        found.append(pytest.param(cell, id=str(cell), marks=() if quick else pytest.mark.proof))
    return found


def site_for(here: Place, pair: str) -> Path:
    """An inventory of a site that survives both."""
    inventory = here.inventory(**PLAYED.get(pair, {}))
    if pair in NODES:
        yaml = YAML()
        content = yaml.load(inventory.read_text())
        content["nodes"] = {f"pve{number}": {"room": f"r{number}"} for number in range(1, NODES[pair] + 1)}
        with inventory.open("w") as file:
            yaml.dump(content, file)
    return inventory


@pytest.mark.parametrize("case", chosen())
def test_a_run_struck_inside_two_faults_leaves_a_healthy_site(here: Place, case: Nested) -> None:
    """Whatever struck it in the middle of the inner fault, both are undone and nothing of ours is left."""
    inventory = site_for(here, case.fault)
    run = struck(here, inventory, case)
    assert [line for line in run.lines if line.kind == "fault.inject"], "the outer one was never in force"
    healed_by(here, inventory, case, run)
    assert_healthy(here, inventory, run)


PLAYED_OUT = (*QUICK, "partition-in-power-cut", "link-loss-in-power-cut")


@pytest.mark.parametrize(
    "pair", [pytest.param(pair, marks=() if pair in PLAYED_OUT else pytest.mark.proof) for pair in PAIRS]
)
def test_a_fault_inside_another_is_played_to_its_end(here: Place, pair: str) -> None:
    """Nothing stops it: what the outer one takes is no harm inside, and what the inner one took none after it."""
    outcome = whole_run.run(site_for(here, pair), here, "-k", f"test_{pair.replace('-', '_')}", suites=SUITE)
    judged = [each for each in outcome.verdict["tests"] if each["verdict"] != "not applicable"]
    (test,) = (each for each in judged if each["id"] != "gate")
    assert (test["verdict"], test["reason"]) == ("not proven", "it makes no claim, so there is nothing that it proves")
    closed = [line.data for line in outcome.journal if line.kind == "fault.close"]
    assert [each["outcome"] for each in closed] == ["healed", "healed"]


def test_what_lies_between_all_nodes_is_not_cut_while_one_is_silent(here: Place) -> None:
    """A switch's loss is rules on every node: where one cannot have them it is refused, and says why."""
    outcome = whole_run.run(here.inventory(BLOCKS, **STRETCHED), here, "-k", "test_switch_loss_in", suites=SUITE)
    (test,) = (each for each in outcome.verdict["tests"] if each["id"] != "gate" and "switch_loss" in each["id"])
    assert test["verdict"] == "not proven"
    assert "is silent by a fault that is in force: a switch is cut off on every node" in test["reason"]
    closed = [line.data["outcome"] for line in outcome.journal if line.kind == "fault.close"]
    assert closed == ["healed"]
