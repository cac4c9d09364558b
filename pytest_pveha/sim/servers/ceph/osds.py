"""OSDs: the CRUSH tree, the map, how full they are, where they stand, and whether they may stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from pytest_pveha.sim.servers.ceph.common import (
    nonce,
    osd_address,
    osd_vector,
    stamp,
    vector_text,
    version_text,
)
from pytest_pveha.sim.servers.ceph.pools import dumped_pools
from pytest_pveha.sim.world.ceph import Ceph, Osd

_TIB = 1 << 40
_TYPES = {"osd": 0, "host": 1, "room": 7, "datacenter": 8, "root": 11}


def tree(ceph: Ceph) -> dict[str, Any]:
    """``ceph osd tree -f json``: from the root down, each bucket before what is below it."""
    rooms = {room: hosts for room, hosts in ceph.crush.rooms().items() if room}
    hosts = ceph.crush.hosts()
    ids = {host: -3 - 2 * number for number, host in enumerate(hosts)}
    room_ids = {room: -3 - 2 * (len(hosts) + number) for number, room in enumerate(rooms)}
    nodes: list[dict[str, Any]] = []

    def add_host(host: str, depth: int) -> None:
        osds = sorted(hosts[host], reverse=True)
        nodes.append(_bucket(ids[host], host, "host", [*osds]))
        nodes.extend(_leaf(ceph.osds[osd], depth + 1) for osd in sorted(hosts[host]))

    loose = [host for host in hosts if not ceph.crush.places[hosts[host][0]].room]
    top = [*(room_ids[room] for room in reversed(rooms)), *(ids[host] for host in reversed(loose))]
    nodes.append(_bucket(-1, "default", "root", top))
    for room, members in rooms.items():
        nodes.append(_bucket(room_ids[room], room, ceph.room_type, [ids[host] for host in reversed(members)]))
        for host in members:
            add_host(host, 2)
    for host in loose:
        add_host(host, 1)
    return {"nodes": nodes, "stray": []}


def _bucket(number: int, name: str, kind: str, children: list[int]) -> dict[str, Any]:
    weights: dict[str, Any] = {} if kind == "root" else {"pool_weights": {}}
    return {"id": number, "name": name, "type": kind, "type_id": _TYPES[kind], **weights, "children": children}


def _leaf(osd: Osd, depth: int) -> dict[str, Any]:
    return {
        "id": osd.number,
        "device_class": "ssd",
        "name": osd.name,
        "type": "osd",
        "type_id": 0,
        "crush_weight": round(osd.bytes / _TIB, 5),
        "depth": depth,
        "pool_weights": {},
        "exists": 1,
        "status": "up" if osd.up else "down",
        "reweight": osd.weight,
        "primary_affinity": 1,
    }


def api_tree(ceph: Ceph) -> dict[str, Any]:
    """The CRUSH tree as PVE's API nests it. Numbers that Perl used as keys are texts there."""
    flat = {node["id"]: node for node in tree(ceph)["nodes"]}
    host_of = {child: node["name"] for node in flat.values() if node["type"] == "host" for child in node["children"]}

    def nested(number: int) -> dict[str, Any]:
        node = flat[number]
        found: dict[str, Any] = {"id": str(number), "name": node["name"], "type": node["type"]}
        found |= {key: node[key] for key in ("status", "crush_weight", "reweight", "device_class") if key in node}
        if node["type"] == "osd":
            return found | _api_leaf(ceph, ceph.osds[number], host_of[number])
        if node["type"] == "host":
            found["version"] = ceph.version
        return found | {"leaf": 0, "children": [nested(child) for child in node["children"]]}

    return {"root": {"leaf": 0, "children": [nested(-1)]}, "flags": ",".join(ceph.flag_words())}


def _api_leaf(ceph: Ceph, osd: Osd, host: str) -> dict[str, Any]:
    latency = ceph.recovery.latency_ms(osd.number) if osd.up else 0
    return {
        "leaf": 1,
        "host": host,
        "in": int(osd.is_in),
        "total_space": osd.bytes,
        "bytes_used": osd.used,
        "percent_used": osd.used * 100 / osd.bytes,
        "commit_latency_ms": latency,
        "apply_latency_ms": latency,
        "osdtype": "bluestore",
        "blfsdev": "/dev/dm-0",
        "dbdev": None,
        "waldev": None,
        "ceph_version": version_text(ceph),
        "ceph_version_short": ceph.version,
        "pgs": len(osd.groups),
    }


def dump(ceph: Ceph) -> dict[str, Any]:
    """``ceph osd dump -f json``."""
    degraded = ceph.stretch.degraded
    return {
        "epoch": ceph.epoch,
        "fsid": ceph.fsid,
        "created": stamp(ceph, 0),
        "modified": stamp(ceph, max(osd.changed for osd in ceph.osds.values())),
        "last_up_change": stamp(ceph, max(osd.changed for osd in ceph.osds.values())),
        "last_in_change": stamp(ceph, 0),
        "flags": ",".join(ceph.flag_words()),
        "flags_num": 5799936,
        "flags_set": sorted(ceph.flag_words()),
        "crush_version": 7,
        # floats of four bytes
        "full_ratio": _float(ceph.ratios["full"]),
        "backfillfull_ratio": _float(ceph.ratios["backfillfull"]),
        "nearfull_ratio": _float(ceph.ratios["nearfull"]),
        "cluster_snapshot": "",
        "pool_max": len(ceph.pools),
        "max_osd": max(ceph.osds) + 1,
        "require_min_compat_client": "luminous",
        "min_compat_client": "jewel",
        "require_osd_release": ceph.release,
        "pools": dumped_pools(ceph),
        "osds": [_dumped(ceph, osd) for osd in ceph.osds.values()],
        "osd_xinfo": [],
        "pg_upmap": [],
        "pg_upmap_items": [],
        "pg_temp": [
            {"pgid": group.name, "osds": list(group.acting)}
            for group in ceph.groups
            if group.acting and group.up != group.acting
        ],
        "primary_temp": [],
        "blocklist": {},
        "erasure_code_profiles": {},
        "stretch_mode": {
            "stretch_mode_enabled": ceph.spec.stretch,
            "stretch_bucket_count": 2 if ceph.spec.stretch else 0,
            "degraded_stretch_mode": int(degraded),
            "recovering_stretch_mode": int(ceph.stretch.recovering),
            "stretch_mode_bucket": 8 if ceph.spec.stretch else 0,
        },
    }


def _float(value: float) -> float:
    return {0.95: 0.949999988079071, 0.9: 0.8999999761581421, 0.85: 0.8500000238418579}.get(value, value)


def _dumped(ceph: Ceph, osd: Osd) -> dict[str, Any]:
    names = {"public": "front", "cluster": "back", "heartbeat_back": "hb_back", "heartbeat_front": "hb_front"}
    return {
        "osd": osd.number,
        "uuid": osd.uuid,
        "up": int(osd.up),
        "in": int(osd.is_in),
        "weight": osd.weight,
        "primary_affinity": 1,
        "last_clean_begin": 0,
        "last_clean_end": 0,
        "up_from": osd.up_from,
        "up_thru": ceph.epoch if osd.up else osd.down_at,
        "down_at": osd.down_at,
        "lost_at": 0,
        **{f"{name}_addrs": osd_vector(ceph, osd, use) for name, use in names.items()},
        **{f"{name}_addr": f"{osd_address(ceph, osd, use)}/{nonce(osd)}" for name, use in names.items()},
        "state": [
            *(["noout"] if "noout" in osd.flags else []),
            *(["autoout"] if osd.auto_out else []),
            "exists",
            *(["up"] if osd.up else []),
        ],
    }


def df(ceph: Ceph) -> dict[str, Any]:
    """``ceph osd df -f json``."""
    rows: list[dict[str, Any]] = []
    groups = Counter(osd for group in ceph.groups for osd in group.up)
    inside = [osd for osd in ceph.osds.values() if osd.is_in]
    average = sum(osd.fullness for osd in inside) / len(inside) if inside else 0.0
    for osd in ceph.osds.values():
        total, used = (osd.bytes // 1024, osd.used // 1024) if osd.is_in else (0, 0)
        rows.append(
            {
                "id": osd.number,
                "device_class": "ssd",
                "name": osd.name,
                "type": "osd",
                "type_id": 0,
                "crush_weight": round(osd.bytes / _TIB, 5),
                "depth": 2,
                "pool_weights": {},
                "reweight": osd.weight,
                "kb": total,
                "kb_used": used,
                "kb_used_data": used,
                "kb_used_omap": 0,
                "kb_used_meta": 0,
                "kb_avail": total - used,
                "utilization": 100 * used / total if total else 0,
                "var": osd.fullness / average if average and total else 0,
                "pgs": groups[osd.number],
                "status": "up" if osd.up else "down",
            }
        )
    total, used = sum(row["kb"] for row in rows), sum(row["kb_used"] for row in rows)
    ratios = [row["var"] for row in rows if row["kb"]]
    spread = sum((100 * osd.fullness - 100 * average) ** 2 for osd in inside) / max(1, len(inside))
    return {
        "nodes": rows,
        "stray": [],
        "summary": {
            "total_kb": total,
            "total_kb_used": used,
            "total_kb_used_data": used,
            "total_kb_used_omap": 0,
            "total_kb_used_meta": 0,
            "total_kb_avail": total - used,
            "average_utilization": 100 * used / total if total else 0.0,
            "min_var": min(ratios, default=0),
            "max_var": max(ratios, default=0),
            "dev": spread**0.5,
        },
    }


def metadata(ceph: Ceph, osd: Osd) -> dict[str, Any]:
    """``ceph osd metadata N``: texts, but for the number."""
    node = ceph.node(osd)
    return {
        "id": osd.number,
        "arch": "x86_64",
        "back_addr": vector_text(osd_vector(ceph, osd, "back")),
        "back_iface": "ceph1",
        "bluefs": "1",
        "bluefs_single_shared_device": "1",
        "bluestore_bdev_dev_node": "/dev/dm-0",
        "bluestore_bdev_devices": _disk(ceph, osd),
        "bluestore_bdev_size": str(osd.bytes),
        "bluestore_bdev_type": "ssd",
        "ceph_release": ceph.release,
        "ceph_version": version_text(ceph),
        "ceph_version_short": ceph.version,
        "default_device_class": "ssd",
        "device_ids": f"{_disk(ceph, osd)}=ATA_SSD_{osd.uuid[:8]}",
        "device_paths": f"{_disk(ceph, osd)}=/dev/disk/by-path/pci-0000:00:1f.2-ata-{osd.number + 2}",
        "devices": _disk(ceph, osd),
        "distro": "debian",
        "front_addr": vector_text(osd_vector(ceph, osd, "front")),
        "front_iface": "ceph0",
        "hb_back_addr": vector_text(osd_vector(ceph, osd, "hb_back")),
        "hb_front_addr": vector_text(osd_vector(ceph, osd, "hb_front")),
        "hostname": osd.host,
        "mem_swap_kb": "0",
        "mem_total_kb": str(node.spec.memory_bytes // 1024),
        "osd_data": f"/var/lib/ceph/osd/ceph-{osd.number}",
        "osd_objectstore": "bluestore",
        "rotational": "0",
    }


def _disk(ceph: Ceph, osd: Osd) -> str:
    return f"sd{chr(ord('b') + ceph.crush.hosts()[osd.host].index(osd.number))}"


def api_metadata(ceph: Ceph, osd: Osd) -> dict[str, Any]:
    """GET /nodes/{n}/ceph/osd/{id}/metadata."""
    full = metadata(ceph, osd)
    unit = ceph.node(osd).units[osd.unit]
    return {
        "osd": {
            "id": osd.number,
            "hostname": osd.host,
            "version": version_text(ceph),
            "osd_objectstore": "bluestore",
            "osd_data": full["osd_data"],
            "mem_usage": 1 << 30 if unit.active else 0,
            "pid": unit.pid,
            **{key: full[key] for key in ("front_addr", "back_addr", "hb_front_addr", "hb_back_addr")},
        },
        "devices": [
            {
                "device": "block",
                "dev_node": "/dev/dm-0",
                "devices": full["devices"],
                "size": osd.bytes,
                "support_discard": 1,
                "type": "ssd",
            }
        ],
    }


def find(ceph: Ceph, osd: Osd) -> dict[str, Any]:
    """``ceph osd find N``."""
    room = ceph.crush.places[osd.number].room
    return {
        "osd": osd.number,
        "addrs": osd_vector(ceph, osd, "front"),
        "osd_fsid": osd.uuid,
        "host": osd.host,
        "crush_location": {**({ceph.room_type: room} if room else {}), "host": osd.host, "root": "default"},
    }


def perf(ceph: Ceph) -> dict[str, Any]:
    """``ceph osd perf -f json``."""
    infos = []
    for osd in ceph.osds.values():
        latency = ceph.recovery.latency_ms(osd.number) if osd.up else 0
        stats = {"commit_latency_ms": latency, "apply_latency_ms": latency,
                 "commit_latency_ns": latency * 1_000_000, "apply_latency_ns": latency * 1_000_000}  # fmt: skip
        infos.append({"id": osd.number, "perf_stats": stats})
    return {"pg_ready": True, "osdstats": {"osd_perf_infos": infos}}


def ok_to_stop(ceph: Ceph, numbers: Collection[int]) -> dict[str, Any]:
    """``ceph osd ok-to-stop N...``: what would become of each placement group without all of these."""
    lists: dict[str, list[str]] = {key: [] for key in ("degraded", "more", "bad", "already")}
    good = 0
    for group in {group for number in numbers if number in ceph.osds for group in ceph.osds[number].groups}:
        left = [osd for osd in group.acting if osd not in numbers]
        if len(left) == len(group.acting):
            continue
        if not group.active:
            lists["already"].append(group.name)
        elif len(left) < group.pool.min_size:
            lists["bad"].append(group.name)
        else:
            good += 1
            lists["more" if group.degraded_objects() else "degraded"].append(group.name)
    bad = len(lists["bad"]) + len(lists["already"])
    names = {key: sorted(found) for key, found in lists.items()}
    head = {"ok_to_stop": not bad, "osds": sorted(numbers), "num_ok_pgs": good, "num_not_ok_pgs": bad}
    optional = {
        "bad_already_inactive": names["already"],
        "bad_become_inactive": names["bad"],
        "ok_become_degraded": names["degraded"],
        "ok_become_more_degraded": names["more"],
    }
    return head | {key: found for key, found in optional.items() if found}


def api_list(ceph: Ceph) -> list[dict[str, Any]]:
    """All OSDs' metadata, in order."""
    return [metadata(ceph, osd) for osd in ceph.osds.values()]
