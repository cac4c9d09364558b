"""Ceph as PVE's API tells it. What needs a mon fails after five seconds without one (PVE's patience with librados).

Shapes: PVE's REST schema, and what its functions make of Ceph's own answers.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import AUDIT, PARAMETERS, ApiError, Call, route
from pytest_pveha.sim.servers.ceph import config, osds, pools, status
from pytest_pveha.sim.servers.ceph.common import COMMIT, version_text
from pytest_pveha.sim.world.ceph import FLAGS, Ceph, Osd
from pytest_pveha.sim.world.systemd import UnitTrouble

EITHER = (*AUDIT, "Datastore.Audit")
MODIFY = ("Sys.Modify",)
_FLAGS = {
    "nobackfill": "No backfill of placement groups.",
    "nodeep-scrub": "No deep scrubbing.",
    "nodown": "Reports of failed OSDs are ignored.",
    "noin": "OSDs that were taken out are not taken in again when they start.",
    "noout": "OSDs that are down are not taken out.",
    "norebalance": "No rebalancing of placement groups.",
    "norecover": "No recovery of placement groups.",
    "noscrub": "No scrubbing.",
    "notieragent": "No work on cache tiers.",
    "noup": "OSDs that start are not called up.",
    "pause": "Clients neither read nor write.",
}


def _ceph(call: Call) -> Ceph:
    """The site's Ceph, which has a quorum that answers."""
    ceph = _installed(call)
    if not ceph.answers(call.node):
        raise ApiError(500, "got timeout")
    return ceph


def _installed(call: Call) -> Ceph:
    if call.world.ceph is None:
        raise ApiError(500, "binary not installed: /usr/bin/ceph-mon")
    return call.world.ceph


def _truth(call: Call, name: str) -> bool:
    text = call.needed(name).lower()
    if text not in ("0", "1", "yes", "no", "true", "false", "on", "off"):
        raise ApiError(400, PARAMETERS, {name: f"type check ('boolean') failed - got '{text}'"})
    return text in ("1", "yes", "true", "on")


# --- the whole cluster ------------------------------------------------------------------------------------------------


@route("GET", "/cluster/ceph/status", EITHER, asks_ceph=True)
@route("GET", "/nodes/{node}/ceph/status", EITHER, asks_ceph=True)
def ceph_status(call: Call, **_: str) -> dict[str, Any]:
    """What ``ceph -s`` says, with health in detail and the whole maps of mons and managers."""
    return status.api_status(_ceph(call))


@route("GET", "/cluster/ceph/flags", AUDIT, asks_ceph=True)
def ceph_flags(call: Call) -> list[dict[str, Any]]:
    """Every flag that can be set, and whether it is."""
    flags = _ceph(call).flags
    return [{"name": name, "description": _FLAGS[name], "value": int(name in flags)} for name in FLAGS]


@route("PUT", "/cluster/ceph/flags", MODIFY, asks_ceph=True)
def put_flags(call: Call) -> str:
    """The flags given are set or not; the task's UPID."""
    call.only(*FLAGS)
    ceph = _ceph(call)
    task = call.world.open_task(call.node, "cephsetflags", "", call.user)
    for name in call.params:
        on = _truth(call, name)
        task.log.append(f"{'set' if on else 'unset'} {name}")
        ceph.set_flag(name, on)
    call.world.close_task(task, "OK")
    return task.upid


@route("GET", "/cluster/ceph/flags/{flag}", AUDIT, asks_ceph=True)
def ceph_flag(call: Call, flag: str) -> int:
    """Whether that flag is set."""
    return int(_flag(flag) in _ceph(call).flags)


@route("PUT", "/cluster/ceph/flags/{flag}", MODIFY, asks_ceph=True)
def put_flag(call: Call, flag: str) -> None:
    """That flag is set, or not."""
    call.only("value")
    _ceph(call).set_flag(_flag(flag), _truth(call, "value"))


def _flag(name: str) -> str:
    if name not in FLAGS:
        message = f"value '{name}' does not have a value in the enumeration '{', '.join(FLAGS)}'"
        raise ApiError(400, PARAMETERS, {"flag": message})
    return name


@route("GET", "/cluster/ceph/metadata", EITHER, asks_ceph=True)
def ceph_metadata(call: Call) -> dict[str, Any]:
    """What each daemon says of itself, and the version on each node."""
    ceph = _ceph(call)
    parts = ceph.version.split(".")
    nodes = {
        name: {"version": {"str": ceph.version, "parts": parts}, "buildcommit": COMMIT} for name in call.world.nodes
    }

    def daemon(name: str, host: str, address: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "hostname": host,
            "ceph_release": ceph.release,
            "ceph_version": version_text(ceph),
            "ceph_version_short": ceph.version,
            "mem_total_kb": 67_108_864,
            "mem_swap_kb": 0,
            **address,
        }

    mons = {
        f"{mon.name}@{mon.node or mon.name}": daemon(
            mon.name, mon.node or mon.name, {"addrs": f"[v2:{mon.address}:3300/0,v1:{mon.address}:6789/0]"}
        )
        for mon in ceph.mons.all.values()
    }
    managers = {
        f"{host}@{host}": daemon(host, host, {"addr": ceph.network.address(host, "public")})
        for host in ceph.managers.hosts
        if ceph.managers.alive(host)
    }
    return {"node": nodes, "mon": mons, "mgr": managers, "mds": {}, "osd": [
        {**one, "mem_total_kb": int(one["mem_total_kb"]), "mem_swap_kb": int(one["mem_swap_kb"]),
         "device_id": one["device_ids"]} for one in osds.api_list(ceph)
    ]}  # fmt: skip


# --- OSDs -------------------------------------------------------------------------------------------------------------


@route("GET", "/nodes/{node}/ceph/osd", EITHER, asks_ceph=True)
def ceph_osds(call: Call, node: str) -> dict[str, Any]:
    """The CRUSH tree: a root, rooms, hosts, their OSDs."""
    return osds.api_tree(_ceph(call))


def _osd(call: Call, number: str) -> tuple[Ceph, Osd]:
    ceph = _ceph(call)
    if not number.isdigit():
        raise ApiError(400, PARAMETERS, {"osdid": f"type check ('integer') failed - got '{number}'"})
    if int(number) not in ceph.osds:
        raise ApiError(500, f"no such OSD '{number}'")
    return ceph, ceph.osds[int(number)]


@route("GET", "/nodes/{node}/ceph/osd/{osdid}/metadata", AUDIT, asks_ceph=True)
def ceph_osd_metadata(call: Call, node: str, osdid: str) -> dict[str, Any]:
    """What that OSD says of itself and its disk."""
    ceph, osd = _osd(call, osdid)
    if osd.host != node:
        raise ApiError(500, f"OSD '{osdid}' does not exists on host '{node}'")
    return osds.api_metadata(ceph, osd)


@route("POST", "/nodes/{node}/ceph/osd/{osdid}/in", MODIFY, asks_ceph=True)
def osd_in(call: Call, node: str, osdid: str) -> None:
    """Data is to lie on that OSD."""
    ceph, osd = _osd(call, osdid)
    ceph.osd_map.set_in([osd], True)


@route("POST", "/nodes/{node}/ceph/osd/{osdid}/out", MODIFY, asks_ceph=True)
def osd_out(call: Call, node: str, osdid: str) -> None:
    """No data is to lie on that OSD."""
    ceph, osd = _osd(call, osdid)
    ceph.osd_map.set_in([osd], False)


# --- mons and managers ------------------------------------------------------------------------------------------------


@route("GET", "/nodes/{node}/ceph/mon", EITHER, asks_ceph=True)
def ceph_mons(call: Call, node: str) -> list[dict[str, Any]]:
    """The mons; without a quorum PVE still lists them, and knows no state."""
    ceph = _installed(call)
    answers = ceph.answers(call.node)
    found = []
    for mon in sorted(ceph.mons.all.values(), key=lambda mon: mon.name):
        row: dict[str, Any] = {"name": mon.name, "host": mon.node or mon.name, "addr": f"{mon.address}:6789/0"}
        if mon.node:
            row |= {"direxists": 1, "service": 1}
        row["state"] = "stopped" if answers else "unknown"
        if answers:
            row |= {"rank": mon.rank}
            row |= {"ceph_version": version_text(ceph), "ceph_version_short": ceph.version}
            if mon.name in ceph.mons.quorum:
                row |= {"quorum": 1, "state": "running"}
        found.append(row)
    return found


@route("GET", "/nodes/{node}/ceph/mgr", EITHER, asks_ceph=True)
def ceph_mgrs(call: Call, node: str) -> list[dict[str, Any]]:
    """The managers: active, standby or stopped."""
    ceph = _ceph(call)
    standbys = ceph.managers.standbys()
    return [
        {
            "name": host,
            "host": host,
            "addr": ceph.network.address(host, "public"),
            "direxists": 1,
            "service": 1,
            "state": "active" if host == ceph.managers.active else "standby" if host in standbys else "stopped",
            "ceph_version_short": ceph.version,
        }
        for host in ceph.managers.hosts
    ]


# --- pools, rules, configuration --------------------------------------------------------------------------------------


@route("GET", "/nodes/{node}/ceph/pool", EITHER, asks_ceph=True)
def ceph_pools(call: Call, node: str) -> list[dict[str, Any]]:
    """The pools, with what they use."""
    ceph = _ceph(call)
    return [
        {
            "pool": pool.number,
            "pool_name": pool.name,
            "type": "replicated",
            "size": pool.size,
            "min_size": pool.min_size,
            "pg_num": len(pool.groups),
            "pg_num_final": len(pool.groups),
            "pg_autoscale_mode": "on",
            "crush_rule": pool.rule.number,
            "crush_rule_name": pool.rule.name,
            "bytes_used": pool.bytes * pool.size,
            "percent_used": pools.percent_used(ceph, pool),
            "application_metadata": {pool.application: {}},
        }
        for pool in ceph.pools.values()
    ]


@route("GET", "/nodes/{node}/ceph/pool/{name}/status", EITHER, asks_ceph=True)
def ceph_pool(call: Call, node: str, name: str) -> dict[str, Any]:
    """One pool's settings."""
    ceph = _ceph(call)
    pool = ceph.pools.get(name)
    if pool is None:
        raise ApiError(500, f"mon_cmd failed -  unrecognized pool '{name}'")
    never = ("fast_read", "nodeep-scrub", "nodelete", "nopgchange", "noscrub", "nosizechange", "use_gmt_hitset",
             "write_fadvise_dontneed")  # fmt: skip
    return {
        "id": pool.number,
        "name": pool.name,
        "size": pool.size,
        "min_size": pool.min_size,
        "pg_num": len(pool.groups),
        "pgp_num": len(pool.groups),
        "pg_autoscale_mode": "on",
        "crush_rule": pool.rule.name,
        "application_list": [pool.application],
        **({"application": pool.application} if pool.application in ("rbd", "cephfs", "rgw") else {}),
        "hashpspool": 1,
        **dict.fromkeys(never, 0),
    }


@route("GET", "/nodes/{node}/ceph/rules", EITHER, asks_ceph=True)
def ceph_rules(call: Call, node: str) -> list[dict[str, Any]]:
    """The CRUSH rules' names."""
    return [{"name": name} for name in _ceph(call).rules]


@route("GET", "/nodes/{node}/ceph/cfg/raw", EITHER)
def ceph_file(call: Call, node: str) -> str:
    """/etc/pve/ceph.conf."""
    return config.file_text(_installed(call))


@route("GET", "/nodes/{node}/ceph/cfg/db", EITHER, asks_ceph=True)
def ceph_database(call: Call, node: str) -> list[dict[str, Any]]:
    """What the mons' configuration database says."""
    return [{**row, "can_update_at_runtime": int(row["can_update_at_runtime"])} for row in config.entries(_ceph(call))]


@route("GET", "/nodes/{node}/ceph/cmd-safety", AUDIT, asks_ceph=True)
def ceph_safety(call: Call, node: str) -> dict[str, Any]:
    """Whether one daemon may be stopped or destroyed, and what Ceph says of it."""
    call.only("service", "id", "action")
    service, action = call.one_of("service", "osd", "mon", "mds"), call.one_of("action", "stop", "destroy")
    name = call.needed("id")
    ceph = _ceph(call)
    if service == "osd":
        _, osd = _osd(call, name)
        if action == "stop":
            told = osds.ok_to_stop(ceph, [osd.number])
            bad = told["num_not_ok_pgs"]
            said = f"unsafe to stop osd(s) at this time ({bad} PGs are or would become offline)" if bad else ""
            return {"safe": int(not bad), "status": said}
        count = len(osd.groups)
        said = f"OSD(s) {osd.number} have {count} pgs currently mapped to them." if count else ""
        return {"safe": int(not count), "status": said}
    if service == "mds" or name not in ceph.mons.all:
        raise ApiError(500, f"mon_cmd failed -  {service}.{name} does not exist")
    quorum, every = {*ceph.mons.quorum}, len(ceph.mons.all)
    left, needed = len(quorum - {name}), (every if action == "stop" else every - 1) // 2 + 1
    if left >= needed:
        remain = ",".join(one for one in ceph.mons.quorum if one != name)
        said = f"quorum should be preserved ({remain}) after {'stopping' if action == 'stop' else 'removing'} [{name}]"
        return {"safe": 1, "status": said}
    return {"safe": 0, "status": f"not enough monitors would be available after stopping mons [{name}]"}


def _service(call: Call, verb: str) -> str:
    """A Ceph service on the node is started or stopped; the task's UPID."""
    call.only("service")
    _installed(call)
    name = call.params.get("service", "ceph.target")
    kind, dot, one = name.partition(".")
    units = call.world.ceph.units.names(call.node.name) if call.world.ceph is not None else []
    chosen = units if name in ("ceph", "ceph.target") else [
        unit for unit in units if unit == f"ceph-{kind}@{one}" or (not dot and unit.startswith(f"ceph-{kind}@"))
    ]  # fmt: skip
    task = call.world.open_task(call.node, f"srv{verb}", name, call.user)
    if not chosen:
        call.world.close_task(task, f"command '/bin/systemctl {verb} ceph-{kind}@{one}' failed: exit code 5")
        return task.upid
    try:
        for unit in chosen:
            if verb in ("stop", "restart"):
                call.world.systemd.stop(call.node, unit)
            if verb == "start":
                call.world.systemd.start(call.node, unit)
    except UnitTrouble as trouble:
        call.world.close_task(task, str(trouble).splitlines()[0])
        return task.upid
    call.world.close_task(task, "OK")
    return task.upid


@route("POST", "/nodes/{node}/ceph/stop", MODIFY)
def ceph_stop(call: Call, node: str) -> str:
    """A service is told to stop."""
    return _service(call, "stop")


@route("POST", "/nodes/{node}/ceph/start", MODIFY)
def ceph_start(call: Call, node: str) -> str:
    """A service is started."""
    return _service(call, "start")
