"""Pools, CRUSH rules and how full everything is: ``osd pool ls detail``, ``osd crush rule dump``, ``df``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pytest_pveha.sim.servers.ceph.common import since, stamp
from pytest_pveha.sim.world.ceph import Ceph, Pool
from pytest_pveha.sim.world.ceph.crush import CrushRule


@dataclass(frozen=True, slots=True)
class Totals:
    """Bytes of all OSDs that are in."""

    total: int
    used: int


def totals(ceph: Ceph) -> Totals:
    """How much there is, and how much of it is used."""
    inside = [osd for osd in ceph.osds.values() if osd.is_in]
    return Totals(sum(osd.bytes for osd in inside), sum(osd.used for osd in inside))


def max_avail(ceph: Ceph, pool: Pool) -> int:
    """What a client could still write: until the fullest OSD is full."""
    inside = [osd for osd in ceph.osds.values() if osd.is_in]
    if not inside:
        return 0
    left = min(max(0.0, ceph.ratios["full"] - osd.fullness) for osd in inside)
    return round(left * sum(osd.bytes for osd in inside) / pool.size)


def percent_used(ceph: Ceph, pool: Pool) -> float:
    """The part of what the pool could hold that is used."""
    used = pool.bytes * pool.size
    return used / (used + max_avail(ceph, pool) * pool.size) if used else 0.0


def pool_list(ceph: Ceph) -> list[dict[str, Any]]:
    """``ceph osd pool ls detail -f json``."""
    return [{("pool_id" if key == "pool" else key): value for key, value in _pool(ceph, pool).items()}
            for pool in ceph.pools.values()]  # fmt: skip


def dumped_pools(ceph: Ceph) -> list[dict[str, Any]]:
    """The pools within ``ceph osd dump``."""
    return [_pool(ceph, pool) for pool in ceph.pools.values()]


def _pool(ceph: Ceph, pool: Pool) -> dict[str, Any]:
    stretch = ceph.spec.stretch
    groups = len(pool.groups)
    return {
        "pool": pool.number,
        "pool_name": pool.name,
        "create_time": stamp(ceph, 0),
        "flags": 1,
        "flags_names": "hashpspool",
        "type": 1,
        "size": pool.size,
        "min_size": pool.min_size,
        "crush_rule": pool.rule.number,
        "peering_crush_bucket_count": 2 if stretch else 0,
        "peering_crush_bucket_target": 2 if stretch else 0,
        "peering_crush_bucket_barrier": 8 if stretch else 0,
        "peering_crush_bucket_mandatory_member": 2147483647,
        **({"is_stretch_pool": stretch} if since(ceph, "squid") else {}),
        "object_hash": 2,
        "pg_autoscale_mode": "on",
        "pg_num": groups,
        "pg_placement_num": groups,
        "pg_placement_num_target": groups,
        "pg_num_target": groups,
        "pg_num_pending": groups,
        "last_change": "21",
        "auid": 0,
        "snap_mode": "selfmanaged",
        "snap_seq": 0,
        "snap_epoch": 0,
        "pool_snaps": [],
        "removed_snaps": "[]",
        "quota_max_bytes": 0,
        "quota_max_objects": 0,
        "tiers": [],
        "tier_of": -1,
        "read_tier": -1,
        "write_tier": -1,
        "cache_mode": "none",
        "erasure_code_profile": "",
        "stripe_width": 0,
        "expected_num_objects": 0,
        "fast_read": False,
        "options": {},
        "application_metadata": {pool.application: {}},
        **({"read_balance": {"score_type": "Fair distribution", "score_acting": 1.0}} if since(ceph, "reef") else {}),
    }


def rule_dump(ceph: Ceph) -> list[dict[str, Any]]:
    """``ceph osd crush rule dump``."""
    return [_rule(ceph, rule) for rule in ceph.rules.values()]


def _rule(ceph: Ceph, rule: CrushRule) -> dict[str, Any]:
    old = {} if since(ceph, "quincy") else {"ruleset": rule.number, "min_size": 1, "max_size": 10}
    domain = ceph.room_type if rule.domain == "room" else rule.domain
    choose: list[dict[str, Any]] = [{"op": "chooseleaf_firstn", "num": 0, "type": domain}]
    if rule.domain == "osd":
        choose = [{"op": "choose_firstn", "num": 0, "type": "osd"}]
    if rule.per_room:
        choose = [
            {"op": "choose_firstn", "num": 0, "type": ceph.room_type},
            {"op": "chooseleaf_firstn", "num": rule.per_room, "type": "host"},
        ]
    return {
        "rule_id": rule.number,
        "rule_name": rule.name,
        **old,
        "type": 1,
        "steps": [{"op": "take", "item": -1, "item_name": "default"}, *choose, {"op": "emit"}],
    }


def df(ceph: Ceph) -> dict[str, Any]:
    """``ceph df -f json``."""
    size = totals(ceph)
    stats = {
        "total_bytes": size.total,
        "total_avail_bytes": size.total - size.used,
        "total_used_bytes": size.used,
        "total_used_raw_bytes": size.used,
        "total_used_raw_ratio": size.used / size.total if size.total else 0.0,
    }
    count = sum(osd.is_in for osd in ceph.osds.values())
    return {
        "stats": {**stats, "num_osds": count, "num_per_pool_osds": count, "num_per_pool_omap_osds": count},
        "stats_by_class": {"ssd": stats},
        "pools": [
            {
                "name": pool.name,
                "id": pool.number,
                "stats": {
                    "stored": pool.bytes,
                    "objects": pool.objects,
                    "kb_used": pool.bytes * pool.size // 1024,
                    "bytes_used": pool.bytes * pool.size,
                    "percent_used": percent_used(ceph, pool),
                    "max_avail": max_avail(ceph, pool),
                },
            }
            for pool in ceph.pools.values()
        ],
    }
