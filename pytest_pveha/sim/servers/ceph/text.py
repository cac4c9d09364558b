"""What people read: ``ceph -s`` and ``ceph osd tree`` without a format."""

from __future__ import annotations

from pytest_pveha.sim.servers.ceph.common import size_text
from pytest_pveha.sim.servers.ceph.osds import tree
from pytest_pveha.sim.servers.ceph.status import health, status
from pytest_pveha.sim.world.ceph import Ceph


def status_text(ceph: Ceph) -> str:
    """``ceph -s``."""
    told = status(ceph)
    checks = health(ceph, detail=False)["checks"].values()
    osdmap, pgmap = told["osdmap"], told["pgmap"]
    standbys = f", standbys: {', '.join(ceph.managers.standbys())}" if ceph.managers.standbys() else ""
    flags = ",".join(sorted(ceph.flags))
    lines = [
        "  cluster:",
        f"    id:     {ceph.fsid}",
        f"    health: {told['health']['status']}",
        *(f"            {check['summary']['message']}" for check in checks if not check["muted"]),
        " ",
        "  services:",
        f"    mon: {len(ceph.mons.all)} daemons, quorum {','.join(ceph.mons.quorum)} (age {told['quorum_age']}s)",
        f"    mgr: {ceph.managers.active or 'no daemons active'}{'(active)' if ceph.managers.active else ''}{standbys}",
        f"    osd: {osdmap['num_osds']} osds: {osdmap['num_up_osds']} up, {osdmap['num_in_osds']} in",
        *([f"         flags {flags}"] if flags else []),
        " ",
        "  data:",
        f"    pools:   {pgmap['num_pools']} pools, {pgmap['num_pgs']} pgs",
        f"    objects: {pgmap['num_objects']} objects, {size_text(pgmap['data_bytes'])}",
        f"    usage:   {size_text(pgmap['bytes_used'])} used, {size_text(pgmap['bytes_avail'])} / "
        f"{size_text(pgmap['bytes_total'])} avail",
        *(f"    pgs:     {row['count']} {row['state_name']}" for row in pgmap["pgs_by_state"]),
        " ",
    ]
    return "\n".join(lines)


def tree_text(ceph: Ceph) -> str:
    """``ceph osd tree``."""
    lines = ["ID  CLASS  WEIGHT   TYPE NAME       STATUS  REWEIGHT  PRI-AFF"]
    for node in tree(ceph)["nodes"]:
        if node["type"] == "osd":
            weights = f"{node['crush_weight']:8.5f}          {node['name']:<10}"
            lines.append(f"{node['id']:>2}    ssd {weights} {node['status']:>7}  {node['reweight']:8.5f}  1.00000")
        else:
            lines.append(f"{node['id']:>2}                  {node['type']} {node['name']}")
    return "\n".join(lines)
