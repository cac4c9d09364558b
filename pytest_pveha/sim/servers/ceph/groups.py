"""Placement groups as the active manager tells of them: ``pg dump``, ``pg ls``, ``pg stat``."""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.ceph.common import size_text, stamp
from pytest_pveha.sim.servers.ceph.pools import totals
from pytest_pveha.sim.world.ceph import Ceph, Group


def _states(ceph: Ceph) -> dict[str, str]:
    """The states last told of, of those that are not clean."""
    return {row.name: row.state for row in ceph.digest.told.rows}


def _brief(ceph: Ceph, group: Group, state: str) -> dict[str, Any]:
    """As the manager was told of it, which may be older than the map."""
    up, acting = ceph.digest.told.placed.get(group.name, ((), ()))
    return {
        "pgid": group.name,
        "state": state,
        "up": list(up),
        "acting": list(acting),
        "up_primary": up[0] if up else -1,
        "acting_primary": acting[0] if acting else -1,
    }


def dump_brief(ceph: Ceph) -> dict[str, Any]:
    """``ceph pg dump pgs_brief -f json``."""
    states = _states(ceph)
    return {
        "pg_ready": True,
        "pg_stats": [_brief(ceph, group, states.get(group.name, "active+clean")) for group in ceph.groups],
    }


def listed(ceph: Ceph, pool: str = "", osd: int | None = None, states: frozenset[str] = frozenset()) -> dict[str, Any]:
    """``ceph pg ls [POOL] [STATE...] -f json``, or ``ls-by-osd``."""
    told = _states(ceph)
    rows = []
    for group in ceph.groups:
        state = told.get(group.name, "active+clean")
        if pool not in ("", group.pool.name, str(group.pool.number)) or not states <= {*state.split("+")}:
            continue
        up, acting = ceph.digest.told.placed.get(group.name, ((), ()))
        if osd is None or osd in up or osd in acting:
            rows.append(_row(ceph, group, state))
    return {"pg_ready": True, "pg_stats": rows}


def _row(ceph: Ceph, group: Group, state: str) -> dict[str, Any]:
    changed, now = stamp(ceph, group.changed), stamp(ceph, ceph.digest.told.at)
    unserved = group.unserved_since or ceph.digest.told.at
    return {
        **_brief(ceph, group, state),
        "version": f"{ceph.epoch}'1",
        "reported_seq": 1,
        "reported_epoch": ceph.digest.told.epoch,
        "last_fresh": now,
        "last_change": changed,
        "last_active": stamp(ceph, unserved),
        "last_clean": changed if state != "active+clean" else now,
        "created": 1,
        "stat_sum": {
            "num_bytes": group.bytes,
            "num_objects": group.objects,
            "num_object_copies": group.objects * group.pool.size,
            "num_objects_missing_on_primary": 0,
            "num_objects_degraded": group.degraded_objects(),
            "num_objects_misplaced": group.misplaced_objects(),
            "num_objects_unfound": 0,
        },
    }


def stat(ceph: Ceph) -> dict[str, Any]:
    """``ceph pg stat -f json``."""
    told, size = ceph.digest.told, totals(ceph)
    found: dict[str, Any] = {
        "num_pg_by_state": [{"name": state, "num": number} for state, number in told.states.items()],
        "num_pgs": sum(told.states.values()),
        "num_bytes": sum(pool.bytes for pool in ceph.pools.values()),
        "total_bytes": size.total,
        "total_avail_bytes": size.total - size.used,
        "total_used_bytes": size.used,
        "total_used_raw_bytes": size.used,
    }
    return {"pg_ready": True, "pg_summary": found}


def stat_text(ceph: Ceph) -> str:
    """``ceph pg stat``: one line."""
    told, size = ceph.digest.told, totals(ceph)
    states = ", ".join(f"{number} {state}" for state, number in told.states.items())
    data = sum(pool.bytes for pool in ceph.pools.values())
    line = (
        f"{sum(told.states.values())} pgs: {states}; {size_text(data)} data, {size_text(size.used)} used, "
        f"{size_text(size.total - size.used)} / {size_text(size.total)} avail"
    )
    for word in ("degraded", "misplaced"):
        if number := getattr(told, word):
            line += f"; {number}/{told.copies} objects {word} ({100 * number / told.copies:.3f}%)"
    if told.recovering_bytes:
        line += f"; {size_text(told.recovering_bytes)}/s, {told.recovering_objects} objects/s recovering"
    return line
