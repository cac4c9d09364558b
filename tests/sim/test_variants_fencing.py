"""Sites that are well, each in its way: the suites of fence paths and of single guests are green on all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import whole_run
from whole_run import ROOT, Place

PATHS, GUESTS = ROOT / "suites" / "fencing", ROOT / "suites" / "guests"
MAINS = ROOT / "suites" / "nodes" / "test_physical_power_cut.py"
TIERS = ("gold", "silver")
CONTAINERS: dict[str, Any] = {
    "guests": [
        {"id": f"ct:{number}", "tier": TIERS[number % 2], "preferred_node": f"pve{number - 100}"}
        for number in (101, 102, 103)
    ]
}
REDFISH: dict[str, Any] = {"nodes": {f"pve{number}": {"bmc": {"driver": "redfish"}} for number in (1, 2, 3)}}
BY_HAND: dict[str, Any] = {"nodes": {f"pve{number}": {} for number in (1, 2, 3)}}
NO_BMC: dict[str, Any] = {"nodes": {f"pve{number}": {"operator": {"who": "J. Doe"}} for number in (1, 2, 3)}}
EMPTY: dict[str, Any] = {
    "guests": [{"id": "vm:101", "tier": "gold", "preferred_node": "pve2"}],
}


@pytest.fixture
def here() -> Iterator[Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


@pytest.mark.proof
@pytest.mark.parametrize(
    ("suite", "blocks"),
    [
        pytest.param(GUESTS, {}, id="guests-of-the-default-site"),
        pytest.param(GUESTS, CONTAINERS, id="containers"),
        pytest.param(PATHS, REDFISH, id="redfish"),
        pytest.param(PATHS, EMPTY, id="nodes-without-guests"),
        pytest.param(MAINS, {}, id="nodes-on-a-pdu"),
        pytest.param(MAINS, BY_HAND, id="cords-pulled-by-hand"),
        pytest.param(MAINS, NO_BMC, id="no-bmc-and-cords-pulled-by-hand"),
    ],
)
def test_a_healthy_site_is_accepted(suite: Any, blocks: dict[str, Any], here: Place) -> None:
    """Every test of the suite is accepted, the destructive ones and those that only look."""
    mains = {"operator": {}} if blocks in (BY_HAND, NO_BMC) else {"pdus": suite is MAINS}
    inventory = here.inventory(blocks, boot_seconds=40, **mains)
    outcome = whole_run.run(inventory, here, "-m", "destructive or readiness", suites=suite)
    told = {test["id"].partition("::")[2]: (test["verdict"], test["reason"]) for test in outcome.verdict["tests"]}
    ran = {name: verdict for name, (verdict, _) in told.items() if name}
    assert ran
    assert set(ran.values()) == {"accepted"}, told
