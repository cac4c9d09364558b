"""Ceph as PVE's API tells it: status, flags, the CRUSH tree, the mons. Shapes: captured samples of a Ceph cluster."""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import AUDIT, ApiError, Call, route
from pytest_pveha.sim.world.ceph import Ceph


@route("GET", "/cluster/ceph/status", AUDIT)
@route("GET", "/nodes/{node}/ceph/status", AUDIT)
def ceph_status(call: Call, **_: str) -> dict[str, Any]:
    """What ``ceph -s`` says; without a quorum of mons nobody answers."""
    return _ceph(call).status()


@route("GET", "/cluster/ceph/flags", AUDIT)
def ceph_flags(call: Call) -> list[dict[str, Any]]:
    """Every flag that can be set, and whether it is."""
    ceph = _ceph(call)
    names = ("nobackfill", "nodeep-scrub", "nodown", "noin", "noout", "norebalance", "norecover", "noscrub", "noup")
    return [{"name": name, "description": f"The {name} flag.", "value": int(name in ceph.flags)} for name in names]


@route("GET", "/nodes/{node}/ceph/osd", AUDIT)
def ceph_osds(call: Call, node: str) -> dict[str, Any]:
    """The CRUSH tree: a root, its hosts, their OSDs."""
    ceph = _ceph(call)
    up = ceph.up()
    hosts = [
        {
            "id": str(-2 - number),
            "name": each.name,
            "type": "host",
            "children": [
                {"id": str(osd), "name": f"osd.{osd}", "type": "osd", "status": "up" if osd in up else "down", "in": 1}
                for osd in ceph.osds(each)
            ],
        }
        for number, each in enumerate(call.facts.world.nodes.values())
    ]
    return {
        "flags": "sortbitwise",
        "root": {"leaf": 0, "children": [{"id": "-1", "name": "default", "type": "root", "children": hosts}]},
    }


@route("GET", "/nodes/{node}/ceph/mon", AUDIT)
def ceph_mons(call: Call, node: str) -> list[dict[str, Any]]:
    """The mons, each called like its host."""
    ceph = _ceph(call)
    alive = ceph.in_quorum()
    return [
        {"name": each.name, "host": each.name, "rank": rank, "quorum": int(each.name in alive)}
        for rank, each in enumerate(ceph.mons())
    ]


def _ceph(call: Call) -> Ceph:
    ceph = call.facts.world.ceph
    if not ceph.there:
        raise ApiError(500, "binary not installed: /usr/bin/ceph-mon")
    if not ceph.in_quorum():
        raise ApiError(500, "got timeout")
    return ceph
