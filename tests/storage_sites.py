"""Sites whose guests lie on NFS, on iSCSI, or on ZFS with replication: blocks of an inventory, and of its simulator."""

from __future__ import annotations

from typing import Any

STORAGES: dict[str, Any] = {"storages": {"vault": {"redundant": True}}}
REPLICATED: dict[str, Any] = {
    "replication": {"max_age": "30 min"},
    "objectives": {
        "tiers": {"gold": {"rto": "5 min", "rpo": "20 min"}, "silver": {"rto": "8 min", "rpo": "20 min"}},
        "settle": "20 min",
    },
}

NFS: dict[str, Any] = {"storages": {"vault": {"type": "nfs", "server": "10.99.7.7"}}}
ISCSI: dict[str, Any] = {"storages": {"vault": {"type": "iscsi", "server": "10.99.7.8"}}}


def _strict(guest: str, home: str, other: str) -> dict[str, Any]:
    return {"affinity": "node", "guests": [guest], "nodes": {home: 2, other: 1}, "strict": True}


ZFS: dict[str, Any] = {
    "storages": {"vault": {"type": "nfs"}, "local-zfs": {"type": "zfs"}},
    "guests": [{"id": sid, "storage": "local-zfs"} for sid in ("vm:101", "vm:103", "vm:105")],
    "replication": [
        {"guest": "vm:101", "target": "pve2"},
        {"guest": "vm:103", "target": "pve3"},
        {"guest": "vm:105", "target": "pve1"},
    ],
    "rules": {
        "on-101": _strict("vm:101", "pve1", "pve2"),
        "on-103": _strict("vm:103", "pve2", "pve3"),
        "on-105": _strict("vm:105", "pve3", "pve1"),
    },
}
"""One guest of each node is replicated to the next, and HA may start it on those two alone."""
