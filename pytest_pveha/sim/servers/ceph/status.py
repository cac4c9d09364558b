"""``ceph status``, ``ceph health detail``, and the maps of mons and managers."""

from __future__ import annotations

from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.ceph.common import (
    RELEASE_NUMBERS,
    epoch_seconds,
    mon_vector,
    since,
    stamp,
    version_text,
)
from pytest_pveha.sim.servers.ceph.pools import totals
from pytest_pveha.sim.world.ceph import Ceph, Mon
from pytest_pveha.sim.world.ceph.health import Health

_MODULES = ["iostat", "nfs"]
_FEATURES = ["kraken", "luminous", "mimic", "osdmap-prune", "nautilus", "octopus", "pacific", "elector-pinging",
             "quincy", "reef", "squid", "tentacle"]  # fmt: skip
STRATEGY = {"classic": 1, "disallow": 2, "connectivity": 3}


def status(ceph: Ceph) -> dict[str, Any]:
    """``ceph -s -f json``."""
    now = ceph.world.timeline.now
    return {
        "fsid": ceph.fsid,
        "health": health(ceph, detail=False),
        "election_epoch": ceph.mons.epoch,
        "quorum": [ceph.mons.all[name].rank for name in ceph.mons.quorum],
        "quorum_names": list(ceph.mons.quorum),
        "quorum_age": _quorum_age(ceph),
        "monmap": {"epoch": 3, "min_mon_release_name": ceph.release, "num_mons": len(ceph.mons.all)},
        "osdmap": osd_stat(ceph),
        "pgmap": pgmap(ceph),
        "fsmap": {
            "epoch": 1,
            **({"btime": stamp(ceph, 0)} if since(ceph, "squid") else {}),
            "by_rank": [],
            "up:standby": 0,
        },
        "mgrmap": {
            "available": ceph.managers.works,
            "num_standbys": len(ceph.managers.standbys()),
            "modules": _MODULES,
            "services": {},
        },
        "servicemap": {"epoch": 2, "modified": stamp(ceph, now - now % SECOND), "services": {}},
        "progress_events": {
            number: {"message": f"{event.message} ({(now - event.at) // SECOND}s)", "progress": event.part,
                     "add_to_ceph_s": True}
            for number, event in ceph.progress.events.items()
        },
    }  # fmt: skip


def api_status(ceph: Ceph) -> dict[str, Any]:
    """The same as PVE passes it on: with health in detail, and the whole maps of mons and managers."""
    return {**status(ceph), "health": health(ceph, detail=True), "monmap": mon_dump(ceph), "mgrmap": mgr_dump(ceph)}


def health(ceph: Ceph, *, detail: bool) -> dict[str, Any]:
    """``ceph health -f json``, or ``ceph health detail``."""
    found = Health(ceph)
    checks = found.checks()
    return {
        "status": found.status(),
        "checks": {
            check.code: {
                "severity": check.severity,
                "summary": {"message": check.message, "count": check.count},
                **({"detail": [{"message": line} for line in check.detail]} if detail else {}),
                "muted": check.code in ceph.muted,
            }
            for check in checks
        },
        "mutes": [
            {"code": code, "sticky": sticky, "summary": next((c.message for c in checks if c.code == code), ""),
             "count": next((c.count for c in checks if c.code == code), 0)}
            for code, sticky in sorted(ceph.muted.items())
        ],
    }  # fmt: skip


def osd_stat(ceph: Ceph) -> dict[str, Any]:
    """How many OSDs there are, up and in."""
    osds = ceph.osds.values()
    return {
        "epoch": ceph.epoch,
        "num_osds": len(ceph.osds),
        "num_up_osds": sum(osd.up for osd in osds),
        "osd_up_since": epoch_seconds(ceph, max(osd.changed for osd in osds)),
        "num_in_osds": sum(osd.is_in for osd in osds),
        "osd_in_since": epoch_seconds(ceph, min(osd.changed for osd in osds)),
        "num_remapped_pgs": sum(
            number for state, number in ceph.digest.told.states.items() if "remapped" in state.split("+")
        ),
    }


def pgmap(ceph: Ceph) -> dict[str, Any]:
    """The placement groups as the manager last told of them. What is zero is not there."""
    told = ceph.digest.told
    size = totals(ceph)
    found: dict[str, Any] = {
        "pgs_by_state": [
            {"state_name": state, "count": number}
            for state, number in sorted(told.states.items(), key=lambda item: -item[1])
        ],
        "num_pgs": sum(told.states.values()),
        "num_pools": len(ceph.pools),
        "num_objects": sum(pool.objects for pool in ceph.pools.values()),
        "data_bytes": sum(pool.bytes for pool in ceph.pools.values()),
        "bytes_used": size.used,
        "bytes_avail": size.total - size.used,
        "bytes_total": size.total,
    }
    total = found["num_pgs"]
    unknown = told.states.get("unknown", 0)
    inactive = sum(n for state, n in told.states.items() if "active" not in state.split("+")) - unknown
    for name, number in (("inactive_pgs_ratio", inactive), ("unknown_pgs_ratio", unknown)):
        if number:
            found[name] = number / total
    for word in ("degraded", "misplaced"):
        if number := getattr(told, word):
            found[f"{word}_objects"] = number
            found[f"{word}_total"] = told.copies
            found[f"{word}_ratio"] = number / told.copies
    if told.recovering_bytes:
        found["recovering_objects_per_sec"] = told.recovering_objects
        found["recovering_bytes_per_sec"] = told.recovering_bytes
        found["recovering_keys_per_sec"] = 0
        found["num_objects_recovered"] = told.recovering_objects * 5
        found["num_bytes_recovered"] = told.recovering_bytes * 5
        found["num_keys_recovered"] = 0
    writes = 0 if ceph.io.blocked else sum(bool(guest.processes) for guest in ceph.world.guests.values())
    if writes:
        found |= {"read_bytes_sec": 0, "write_bytes_sec": 8192 * writes, "read_op_per_sec": 0,
                  "write_op_per_sec": 2 * writes}  # fmt: skip
    return found


def _quorum_age(ceph: Ceph) -> int:
    days = 345_600 if not ceph.mons.since else 0
    return days + (ceph.world.timeline.now - ceph.mons.since) // SECOND


# --- mons and managers ------------------------------------------------------------------------------------------------


def monmap(ceph: Ceph) -> dict[str, Any]:
    """The map of the mons."""
    stretch = ceph.spec.stretch
    return {
        "epoch": 3,
        "fsid": ceph.fsid,
        "modified": stamp(ceph, 0),
        "created": stamp(ceph, 0),
        "min_mon_release": RELEASE_NUMBERS[ceph.release],
        "min_mon_release_name": ceph.release,
        "election_strategy": STRATEGY["connectivity" if stretch else "classic"],
        "disallowed_leaders: ": ceph.spec.tiebreaker if stretch else "",
        "stretch_mode": stretch,
        "tiebreaker_mon": ceph.spec.tiebreaker if stretch else "",
        "removed_ranks: ": "",
        "features": {"persistent": _FEATURES[: RELEASE_NUMBERS[ceph.release] - 8], "optional": []},
        "mons": [
            {
                "rank": mon.rank,
                "name": mon.name,
                "public_addrs": mon_vector(mon),
                "addr": f"{mon.address}:6789/0",
                "public_addr": f"{mon.address}:6789/0",
                "priority": 0,
                "weight": 0,
                "crush_location": f"{{datacenter={mon.room}}}" if stretch and mon.room else "{}",
            }
            for mon in ceph.mons.all.values()
        ],
    }


def mon_dump(ceph: Ceph) -> dict[str, Any]:
    """``ceph mon dump -f json``."""
    return {**monmap(ceph), "quorum": [ceph.mons.all[name].rank for name in ceph.mons.quorum]}


def mon_stat(ceph: Ceph) -> dict[str, Any]:
    """``ceph mon stat -f json``."""
    leader = ceph.mons.leader
    return {
        "epoch": 3,
        "min_mon_release_name": str(RELEASE_NUMBERS[ceph.release]),
        "num_mons": len(ceph.mons.all),
        "leader": leader.name if leader else "",
        "quorum": [{"rank": ceph.mons.all[name].rank, "name": name} for name in ceph.mons.quorum],
    }


def quorum_status(ceph: Ceph) -> dict[str, Any]:
    """``ceph quorum_status``."""
    leader = ceph.mons.leader
    return {
        "election_epoch": ceph.mons.epoch,
        "quorum": [ceph.mons.all[name].rank for name in ceph.mons.quorum],
        "quorum_names": list(ceph.mons.quorum),
        "quorum_leader_name": leader.name if leader else "",
        "quorum_age": _quorum_age(ceph),
        "features": {"quorum_con": "4540138322906710015", "quorum_mon": _FEATURES[: RELEASE_NUMBERS[ceph.release] - 8]},
        "monmap": monmap(ceph),
    }


def mon_status(ceph: Ceph, mon: Mon) -> dict[str, Any]:
    """``ceph daemon mon.NAME mon_status``: its own view, by its socket on its machine."""
    state = ceph.mons.state(mon)
    quorum = [] if state == "probing" else [ceph.mons.all[name].rank for name in ceph.mons.quorum]
    return {
        "name": mon.name,
        "rank": mon.rank,
        "state": state,
        "election_epoch": ceph.mons.epoch,
        "quorum": quorum,
        "outside_quorum": [mon.name] if state == "probing" else [],
        "extra_probe_peers": [],
        "sync_provider": [],
        "monmap": monmap(ceph),
        "stretch_mode": ceph.spec.stretch,
    }


def time_sync(ceph: Ceph) -> dict[str, Any]:
    """``ceph time-sync-status``."""
    skewed = ceph.mons.skewed()
    return {
        "time_skew_status": {
            name: {"skew": offset, "latency": 0.0 if not at else 0.0005, "health": "HEALTH_WARN" if name in skewed
                   else "HEALTH_OK"}
            for at, (name, offset) in enumerate(ceph.mons.offsets().items())
        },
        "timechecks": {"epoch": ceph.mons.epoch, "round": 42, "round_status": "finished"},
    }  # fmt: skip


def mgr_dump(ceph: Ceph) -> dict[str, Any]:
    """``ceph mgr dump``."""
    managers = ceph.managers

    def gid(host: str) -> int:
        return 14_000 + 1000 * managers.hosts.index(host)

    active = managers.active
    address = f"{ceph.network.address(active, 'public')}:6840" if active else "-"
    return {
        "epoch": managers.epoch,
        "active_gid": gid(active) if active else 0,
        "active_name": active,
        "active_addrs": {"addrvec": [{"type": "v2", "addr": address, "nonce": 1}] if active else []},
        "active_addr": f"{address}/1" if active else "-",
        "active_change": stamp(ceph, managers.since),
        "active_mgr_features": 4540138322906710015 if active else 0,
        "available": managers.works,
        "standbys": [
            {"gid": gid(host), "name": host, "mgr_features": 4540138322906710015, "available_modules": []}
            for host in managers.standbys()
        ],
        "modules": _MODULES,
        "available_modules": [],
        "services": {},
        "always_on_modules": {
            ceph.release: ["balancer", "crash", "devicehealth", "pg_autoscaler", "progress", "status"]
        },
        "last_failure_osd_epoch": 0,
        "active_clients": [],
    }


def versions(ceph: Ceph) -> dict[str, Any]:
    """``ceph versions``: of the daemons that are there."""
    text = version_text(ceph)
    counts = {
        "mon": len(ceph.mons.quorum),
        "mgr": len(ceph.managers.standbys()) + ceph.managers.works,
        "osd": sum(osd.up for osd in ceph.osds.values()),
    }
    found = {kind: {text: number} if number else {} for kind, number in counts.items()}
    mds: dict[str, Any] = {} if since(ceph, "reef") else {"mds": {}}
    return {**found, **mds, "overall": {text: sum(counts.values())}}
