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


WITH_A_NODE: dict[str, Any] = {
    **{name: block for name, block in BLOCKS.items() if name != "quorum_device"},
    "nodes": {**BLOCKS["nodes"], "pve5": {"room": "tie", "feed": "feed-tie"}},
    "feeds": {**BLOCKS["feeds"], "feed-tie": {"ups": "ups-tie"}},
}
"""The same whose tiebreaker is a node in the third room."""

PLAYED_WITH_A_NODE: dict[str, Any] = {
    **PLAYED,
    "paths": [{"rooms": pair, "delay": "0.6 ms"} for pair in (["east", "west"], ["east", "tie"], ["west", "tie"])],
}

WITH_CEPH: dict[str, Any] = {**BLOCKS, "ceph": {"stretch_tiebreaker": "tie", "tiebreaker_room": "tie"}}
"""The same with guests on a Ceph in stretch mode, whose tiebreaker mon stands beside the quorum device."""

PLAYED_WITH_CEPH: dict[str, Any] = {**PLAYED, "ceph": {"size": 4, "min_size": 2, "pgs": 32}}


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


def _step(name: str, text: str, *, back: bool = False) -> dict[str, Any]:
    return {"name": name, "text": text, **({"back": True} if back else {})}


BY_HAND: dict[str, Any] = {
    **BLOCKS,
    "replication": {
        "manual_failover": True,
        "guests": ["vm:101", "vm:102"],
        "steps": [
            _step("decide", "read chapter 4, and decide with the manager on duty that east is lost."),
            *(
                _step(f"release-{number}", f"on pve3 type: ha-manager rules remove keep-{number}")
                for number in (101, 102)
            ),
            *(
                _step(
                    f"return-{number}",
                    f"on pve3 type: ha-manager rules add node-affinity keep-{number} --resources vm:{number} "
                    f"--nodes {home} --strict 1",
                    back=True,
                )
                for number, home in ((101, "pve1"), (102, "pve2"))
            ),
        ],
    },
    "organisation": {
        "runbook": "runbook.md",
        "acknowledged_by": "J. Doe",
        "acknowledged_on": "2026-01-01",
        "on_call": "night shift",
    },
    "objectives": {
        "tiers": {"gold": {"rto": "5 min", "rpo": "20 min"}, "silver": {"rto": "8 min", "rpo": "20 min"}},
        "scenarios": {"dr_procedure": {"gold": {"rto": "20 min"}}},
    },
}
"""The same with guests that are replicated to the other room, HA that keeps them at home, and people who move them."""

PLAYED_BY_HAND: dict[str, Any] = {
    **PLAYED,
    "operator": {},
    "storages": {"vault": {"type": "nfs"}, "local-zfs": {"type": "zfs"}},
    "guests": [{"id": sid, "storage": "local-zfs"} for sid in ("vm:101", "vm:102")],
    "replication": [{"guest": sid, "target": node} for sid in ("vm:101", "vm:102") for node in ("pve3", "pve4")],
    "rules": {
        f"keep-{number}": {"affinity": "node", "guests": [f"vm:{number}"], "nodes": {home: 0}, "strict": True}
        for number, home in ((101, "pve1"), (102, "pve2"))
    },
}
