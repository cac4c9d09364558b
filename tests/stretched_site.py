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
