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


def replicated(*guests: str) -> dict[str, Any]:
    """These guests, one of each node, are replicated to the next, and HA may start each on those two alone."""
    pairs = [("pve1", "pve2"), ("pve2", "pve3"), ("pve3", "pve1")]
    return {
        "storages": {"vault": {"type": "nfs"}, "local-zfs": {"type": "zfs"}},
        "guests": [{"id": sid, "storage": "local-zfs"} for sid in guests],
        "replication": [{"guest": sid, "target": other} for sid, (_, other) in zip(guests, pairs, strict=True)],
        "rules": {f"on-{sid[3:]}": _strict(sid, *pair) for sid, pair in zip(guests, pairs, strict=True)},
    }


ZFS = replicated("vm:101", "vm:103", "vm:105")
"""Canaries among them: what a failover to a replica loses is seen by what was written."""
PLAIN_ZFS = replicated("vm:102", "vm:104", "vm:106")
"""No canary among them: tests that are no failover to a replica promise that nothing written is lost."""
