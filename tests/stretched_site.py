"""The stretched site that ships, as far as it differs from the default: what tests change parts of."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from whole_run import ROOT

_CONTENT: dict[str, Any] = YAML(typ="safe").load((ROOT / "inventories" / "sim-stretched.yml").read_text())

BLOCKS: dict[str, Any] = {name: block for name, block in _CONTENT.items() if name not in ("simulator", "site")}
"""Its blocks; the simulator's is ``PLAYED``."""

PLAYED: dict[str, Any] = {**_CONTENT["simulator"], "guests": []}
"""The keys of its simulator block."""


def rooms_of(each: int) -> dict[str, Any]:
    """The blocks of so many nodes in each of the two rooms, with a guest on every node."""
    placed = [(f"pve{number}", "east" if number <= each else "west") for number in range(1, 2 * each + 1)]
    guests = [
        {"id": f"vm:{number}", "tier": "gold", "preferred_node": name} for number, (name, _) in enumerate(placed, 101)
    ]
    return {
        **BLOCKS,
        "nodes": {name: {"room": room, "feed": f"feed-{room}"} for name, room in placed},
        "guests": guests,
    }


BY_HAND: dict[str, Any] = {
    **BLOCKS,
    "replication": {
        "manual_failover": True,
        "steps": [
            {"name": "decide", "text": "read chapter 4, and decide with the manager on duty that east is lost."},
            {"name": "release", "text": "on pve3 type: ha-manager rules remove stay-east"},
            {
                "name": "return",
                "text": "on pve3 type: ha-manager rules add node-affinity stay-east --resources vm:101,vm:102 "
                "--nodes pve1,pve2 --strict 1",
                "back": True,
            },
        ],
    },
    "organisation": {
        "runbook": "runbook.md",
        "acknowledged_by": "J. Doe",
        "acknowledged_on": "2026-01-01",
        "on_call": "night shift",
    },
    "objectives": {**BLOCKS["objectives"], "scenarios": {"dr_procedure": {"gold": {"rto": "20 min"}}}},
}
"""The same with HA that keeps to a room, and people who bring its guests elsewhere."""

PLAYED_BY_HAND: dict[str, Any] = {
    **PLAYED,
    "operator": {},
    "rules": {
        "stay-east": {
            "affinity": "node",
            "guests": ["vm:101", "vm:102"],
            "nodes": {"pve1": 0, "pve2": 0},
            "strict": True,
        }
    },
}
