"""No quorum suite is red on a healthy site, however many nodes, links and votes it has."""

from __future__ import annotations

from typing import Any

import pytest
import whole_run

DEVICE = {"quorum_device": {"host": "10.99.9.9"}}
RULED = {"quorum_device": {"host": "10.99.9.9", "algorithm": "lms"}}


def site(count: int, *, idle: int = 0, **more: Any) -> dict[str, Any]:
    """So many nodes in rooms of their own; the last ``idle`` of them run no HA guest."""
    names = [f"pve{number}" for number in range(1, count + 1)]
    busy = names[: count - idle]
    return {
        "nodes": {name: {"room": name} for name in names},
        "guests": [
            {"id": f"vm:{number}", "tier": "gold", "preferred_node": name} for number, name in enumerate(busy, 101)
        ],
        **more,
    }


VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "two nodes and a device": ("", site(2, **DEVICE), {}),
    "two links": ("link", site(3), {"links": 2}),
    "four nodes and a device": ("", site(4, **DEVICE), {}),
    "three nodes and lms": ("qdevice or minority", site(3, **RULED), {}),
    "five nodes": ("not link", site(5), {}),
    "the old token coefficient": ("not link", site(5), {"token_coefficient": 650}),
    "an idle CRM master": ("minority or short or long", site(3, idle=1), {}),
    "two links cut as one": ("minority", site(3), {"links": 2}),
}
"""What is chosen, the inventory's blocks, and the simulator's keys."""
QUICK = ("two nodes and a device",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.proof) for name in VARIANTS]
)
def test_no_quorum_suite_is_red_on_a_healthy_site(name: str) -> None:
    """Everything that applies is accepted, and something does apply."""
    chosen, blocks, simulator = VARIANTS[name]
    alone = [{"id": "vm:199", "node": "pve2", "ha": False}]
    with whole_run.place() as here:
        inventory = here.inventory(blocks, boot_seconds=40, **{"guests": alone, **simulator})
        words = ("-k", chosen) if chosen else ()
        outcome = whole_run.run(inventory, here, *words, suites=whole_run.ROOT / "suites" / "quorum")
    verdicts = {test["id"]: (test["verdict"], test["reason"]) for test in outcome.verdict["tests"]}
    counted = {name: each for name, each in verdicts.items() if each[0] != "not applicable"}
    assert [each for each in counted.items() if each[1][0] != "accepted"] == []
    assert len(counted) > 1, verdicts
