"""The REST API's shapes: one function a path, each answering from what the node sees at this moment.

Field by field as recorded on a PVE 9.1.9 control plane; error texts as there. What a node answers for another one
(proxying, waiting, authentication) is https_api's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_pveha.sim.servers.facts import (
    DESCRIPTIONS,
    KERNEL,
    KERNEL_BUILD,
    REPOSITORY_ID,
    Facts,
    clock_text,
    digest,
    stable_uuid,
)
from pytest_pveha.sim.world.ceph import Ceph
from pytest_pveha.sim.world.model import Guest, Node, Refused, Task

PARAMETERS = "Parameter verification failed."


class ApiError(Exception):
    """PVE refuses: its status code, and the text that becomes reason phrase and body."""

    def __init__(self, status: int, message: str, errors: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Call:
    """One request at the node that executes it."""

    facts: Facts
    user: str
    """As tasks show it: user@realm!tokenid."""
    params: Mapping[str, str] = field(default_factory=dict)
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        """The node that executes."""
        return self.facts.node

    def number(self, name: str) -> int | None:
        """That parameter as a number, None if it is not given."""
        text = self.params.get(name)
        if text is None:
            return None
        if not text.isdigit():
            raise ApiError(400, PARAMETERS, {name: f"type check ('integer') failed - got '{text}'"})
        return int(text)


Function = Callable[..., Any]
"""Takes the Call and the path's parts by name; returns what goes into ``data``, or Listing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A list with its ``total`` beside ``data``."""

    data: list[dict[str, Any]]
    total: int


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    pattern: re.Pattern[str]
    function: Function
    reads_cluster: bool
    """Answered from pmxcfs or corosync, so it may hang while the membership changes."""


ROUTES: list[Route] = []


_PART = re.compile(r"\{(\w+)(?::([^}]+))?\}")


def _route(method: str, path: str) -> Callable[[Function], Function]:
    pattern = re.compile(_PART.sub(lambda part: f"(?P<{part[1]}>{part[2] or '[^/]+'})", path) + "/?")

    def enter(function: Function) -> Function:
        reads_cluster = path.startswith("/cluster") or path == "/nodes"
        ROUTES.append(Route(method, pattern, function, reads_cluster and method == "GET"))
        return function

    return enter


def find(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route for a path below /api2/json, and its parts; ApiError 501 if this version has none."""
    for route in ROUTES:
        if route.method == method and (match := route.pattern.fullmatch(path)):
            return route, match.groupdict()
    raise ApiError(501, f"Method '{method} {path}' not implemented")


# --- /version, /cluster -----------------------------------------------------------------------------------------------


@_route("GET", "/version")
@_route("GET", "/nodes/{node}/version")
def version(call: Call, **_: str) -> dict[str, Any]:
    """The manager's version."""
    return {"release": call.facts.release, "repoid": REPOSITORY_ID, "version": call.facts.world.spec.version}


@_route("GET", "/cluster/status")
def cluster_status(call: Call) -> list[dict[str, Any]]:
    """Quorum and nodes as this node sees them; ``quorate`` and ``online`` are integers here."""
    facts = call.facts
    head = {
        "id": "cluster",
        "name": facts.world.spec.cluster,
        "nodes": len(facts.world.nodes),
        "quorate": int(facts.view.quorate),
        "type": "cluster",
        "version": len(facts.world.nodes),
    }
    return [head, *(_status_entry(facts, node) for node in facts.world.nodes.values())]


def _status_entry(facts: Facts, node: Node) -> dict[str, Any]:
    return {
        "id": f"node/{node.name}",
        "ip": facts.address(node),
        "level": "",
        "local": int(node is facts.node),
        "name": node.name,
        "nodeid": node.nodeid,
        "online": int(node.nodeid in facts.view.members),
        "type": "node",
    }


@_route("GET", "/cluster/resources")
def cluster_resources(call: Call) -> list[dict[str, Any]]:
    """What the nodes last broadcast; ``type`` filters."""
    wanted = call.params.get("type")
    found: list[dict[str, Any]] = []
    if wanted in (None, "vm"):
        found += [_guest_resource(call.facts, guest) for guest in call.facts.world.guests.values()]
    if wanted in (None, "node"):
        found += [_node_resource(call.facts, node) for node in call.facts.world.nodes.values()]
    if wanted in (None, "storage"):
        found += [_storage_resource(call.facts, node) for node in call.facts.world.nodes.values()]
    return found


def _guest_resource(facts: Facts, guest: Guest) -> dict[str, Any]:
    running, uptime = facts.guest_shown(guest)
    kind = "qemu" if guest.kind == "vm" else "lxc"
    entry = {
        "cpu": 0.05 if running else 0,
        "disk": 0,
        "diskread": 0,
        "diskwrite": 0,
        "id": f"{kind}/{guest.vmid}",
        "maxcpu": 1,
        "maxdisk": 0,
        "maxmem": guest.spec.memory_bytes,
        "mem": 0,
        "memhost": 0,
        "name": guest.name,
        "netin": 0,
        "netout": 0,
        "node": facts.view.config_nodes[guest.vmid],
        "status": "running" if running else "stopped",
        "template": 0,
        "type": kind,
        "uptime": int(uptime),
        "vmid": guest.vmid,
    }
    mishaps = facts.world.mishaps
    if running and guest.vmid in mishaps.paused:
        entry["status"] = "paused"
    if lock := mishaps.locks.get(guest.vmid):
        entry["lock"] = lock
    shown = facts.service_shown(guest.sid)
    return entry if shown is None else {**entry, "hastate": shown}


_DISK = {"disk": 28635582464, "maxdisk": 270553174016}


def _node_resource(facts: Facts, node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "cgroup-mode": 2,
        "hastate": facts.ha_status["manager_status"].get("node_status", {}).get(node.name, "unknown"),
        **_node_entry(facts, node),
    }
    return entry


def _node_entry(facts: Facts, node: Node) -> dict[str, Any]:
    status = facts.node_shown(node)
    entry: dict[str, Any] = {
        "id": f"node/{node.name}",
        "level": "",
        "node": node.name,
        "status": status,
        "type": "node",
        "maxcpu": 8,
        "maxdisk": _DISK["maxdisk"],
        "maxmem": node.spec.memory_bytes,
    }
    if status == "online":
        entry |= {"cpu": 0.05, "disk": _DISK["disk"], "mem": _used(node), "uptime": int(facts.uptime(node))}
    return entry


def _used(node: Node) -> int:
    return node.spec.memory_bytes // 5


def _storage_resource(facts: Facts, node: Node) -> dict[str, Any]:
    online = facts.node_shown(node) == "online"
    return {
        "content": "images,vztmpl,snippets,backup,rootdir,iso",
        "id": f"storage/{node.name}/local",
        "node": node.name,
        "plugintype": "dir",
        "shared": 0,
        "status": "available" if online else "unknown",
        "storage": "local",
        "type": "storage",
        "maxdisk": _DISK["maxdisk"],
        **({"disk": _DISK["disk"]} if online else {}),
    }


@_route("GET", "/cluster/config/nodes")
def config_nodes(call: Call) -> list[dict[str, str]]:
    """The node list of corosync.conf; every value is a string."""
    return [
        {
            "name": node.name,
            "node": node.name,
            "nodeid": str(node.nodeid),
            "quorum_votes": "1",
            "ring0_addr": call.facts.address(node),
        }
        for node in call.facts.world.nodes.values()
    ]


@_route("GET", "/cluster/config/totem")
def config_totem(call: Call) -> dict[str, Any]:
    """The totem section of corosync.conf."""
    spec = call.facts.world.spec
    return {
        "cluster_name": spec.cluster,
        "config_version": str(len(spec.nodes)),
        "interface": {"0": {"linknumber": "0"}},
        "ip_version": "ipv4-6",
        "link_mode": "passive",
        "secauth": "on",
        "token_coefficient": str(spec.token_coefficient),
        "version": "2",
    }


@_route("GET", "/cluster/options")
def options(call: Call) -> dict[str, Any]:
    """The datacenter's options; nothing is set."""
    return {"allowed-tags": [], "description": "", "mac_prefix": "BC:24:11"}


@_route("GET", "/cluster/tasks")
def cluster_tasks(call: Call) -> list[dict[str, Any]]:
    """Recent tasks of all nodes, newest first."""
    return [{**_task_entry(task), "saved": "1"} for task in call.facts.view.tasks]


# --- /cluster/ha ------------------------------------------------------------------------------------------------------


@_route("GET", "/cluster/ha")
def ha_index(call: Call) -> list[dict[str, str]]:
    """What lies below."""
    return [{"id": name} for name in ("status", "resources", "groups", "rules")]


@_route("GET", "/cluster/ha/status")
def ha_status_index(call: Call) -> list[dict[str, str]]:
    """What lies below."""
    return [{"name": name} for name in ("current", "manager_status", "disarm-ha", "arm-ha")]


@_route("GET", "/cluster/ha/status/current")
def ha_current(call: Call) -> list[dict[str, Any]]:
    """Quorum, master, fencing, one entry an LRM, one a service."""
    return call.facts.ha_current


@_route("GET", "/cluster/ha/status/manager_status")
def ha_manager_status(call: Call) -> dict[str, Any]:
    """The master's and the LRMs' files; ``quorate`` is a string here."""
    return call.facts.ha_status


@_route("GET", "/cluster/ha/resources")
def ha_resources(call: Call) -> list[dict[str, Any]]:
    """The HA resources' configuration."""
    wanted = call.params.get("type")
    return [resource for resource in call.facts.ha_resources if wanted in (None, resource["type"])]


@_route("GET", "/cluster/ha/resources/{sid}")
def ha_resource(call: Call, sid: str) -> dict[str, Any]:
    """One HA resource's configuration; a bare number is taken too."""
    return _managed(call, sid)


@_route("PUT", "/cluster/ha/resources/{sid}")
def ha_request(call: Call, sid: str) -> None:
    """Another state is asked for; the master follows in its rounds."""
    resource, wanted = _managed(call, sid), call.params.get("state", "")
    if wanted not in ("started", "stopped", "disabled", "ignored"):
        raise ApiError(400, PARAMETERS, {"state": f"value '{wanted}' does not have a value in the enumeration"})
    if not call.facts.view.quorate:
        raise ApiError(500, "cluster not ready - no quorum?")
    call.facts.world.pmxcfs.store.resources[resource["sid"]]["state"] = wanted


@_route("POST", "/cluster/ha/resources/{sid}/migrate")
def ha_migrate(call: Call, sid: str) -> dict[str, Any]:
    """The migration is queued for the master; the answer says nothing of its success."""
    resource = _managed(call, sid)
    target = call.params.get("node")
    if target is None:
        raise ApiError(400, PARAMETERS, {"node": "property is missing and it is not optional"})
    if target not in call.facts.world.nodes:
        raise ApiError(500, f"no such cluster node '{target}'")
    vmid = int(resource["sid"].partition(":")[2])
    _asked(lambda: call.facts.world.migrate_guest(vmid, target, call.user))
    return {"requested-node": target, "sid": resource["sid"]}


def _managed(call: Call, sid: str) -> dict[str, Any]:
    for resource in call.facts.ha_resources:
        if sid in (resource["sid"], resource["sid"].partition(":")[2]):
            return resource
    raise ApiError(500, f"no such resource '{sid}'")


@_route("GET", "/cluster/ha/rules")
def ha_rules(call: Call) -> list[dict[str, Any]]:
    """No rules are set."""
    return []


@_route("GET", "/cluster/ha/groups")
def ha_groups(call: Call) -> None:
    """Groups are no more in PVE 9."""
    raise ApiError(500, "cannot index groups: ha groups have been migrated to rules")


# --- Ceph -------------------------------------------------------------------------------------------------------------


@_route("GET", "/cluster/ceph/status")
@_route("GET", "/nodes/{node}/ceph/status")
def ceph_status(call: Call, **_: str) -> dict[str, Any]:
    """What ``ceph -s`` says; without a quorum of mons nobody answers."""
    return _ceph(call).status()


@_route("GET", "/cluster/ceph/flags")
def ceph_flags(call: Call) -> list[dict[str, Any]]:
    """Every flag that can be set, and whether it is."""
    ceph = _ceph(call)
    names = ("nobackfill", "nodeep-scrub", "nodown", "noin", "noout", "norebalance", "norecover", "noscrub", "noup")
    return [{"name": name, "description": f"The {name} flag.", "value": int(name in ceph.flags)} for name in names]


@_route("GET", "/nodes/{node}/ceph/osd")
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


@_route("GET", "/nodes/{node}/ceph/mon")
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


# --- /nodes -----------------------------------------------------------------------------------------------------------


@_route("GET", "/nodes")
def nodes(call: Call) -> list[dict[str, Any]]:
    """Every node of the cluster; figures only of those that are online."""
    return [
        {**_node_entry(call.facts, node), "ssl_fingerprint": call.fingerprints.get(node.name, "")}
        for node in call.facts.world.nodes.values()
    ]


@_route("GET", "/nodes/{node}/status")
def node_status(call: Call, node: str) -> dict[str, Any]:
    """The node's hardware, load and uptime."""
    facts = call.facts
    total, used = facts.node.spec.memory_bytes, _used(facts.node)
    return {
        "boot-info": {"mode": "efi", "secureboot": 0},
        "cpu": 0.05,
        "cpuinfo": {
            "cores": 8,
            "cpus": 8,
            "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov",
            "hvm": "1",
            "mhz": "2300.000",
            "model": "Simulated Processor",
            "sockets": 1,
            "user_hz": 100,
        },
        "current-kernel": {"machine": "x86_64", "release": KERNEL, "sysname": "Linux", "version": KERNEL_BUILD},
        "idle": 0,
        "ksm": {"shared": 0},
        "kversion": f"Linux {KERNEL} {KERNEL_BUILD}",
        "loadavg": ["0.10", "0.10", "0.10"],
        "memory": {"available": total - used, "free": total - used, "total": total, "used": used},
        "pveversion": facts.pveversion,
        "rootfs": {
            "avail": _DISK["maxdisk"] - _DISK["disk"],
            "free": _DISK["maxdisk"] - _DISK["disk"],
            "total": _DISK["maxdisk"],
            "used": _DISK["disk"],
        },
        "swap": {"free": 0, "total": 0, "used": 0},
        "uptime": int(facts.uptime()),
        "wait": 0,
    }


@_route("GET", "/nodes/{node}/services")
def services(call: Call, node: str) -> list[dict[str, str]]:
    """The units PVE lists; the watchdog multiplexer and qdevice are not among them."""
    return [_service(call.facts, unit) for unit in DESCRIPTIONS]


@_route("GET", "/nodes/{node}/services/{service}/state")
def service_state(call: Call, node: str, service: str) -> dict[str, str]:
    """One unit's state."""
    if service not in DESCRIPTIONS:
        message = f"value '{service}' does not have a value in the enumeration '{', '.join(DESCRIPTIONS)}'"
        raise ApiError(400, PARAMETERS, {"service": message})
    return _service(call.facts, service)


def _service(facts: Facts, unit: str) -> dict[str, str]:
    state = facts.unit(unit)
    return {
        "active-state": state.active,
        "desc": DESCRIPTIONS[unit],
        "name": unit,
        "service": unit,
        "state": state.sub,
        "unit-state": state.enabled,
    }


@_route("GET", "/nodes/{node}/journal")
def journal(call: Call, node: str) -> list[str]:
    """The node's journal, a cursor before and after; ``since``, ``until`` and ``lastentries`` apply."""
    since, until = call.number("since"), call.number("until")
    lines = [
        f"{clock_text(epoch)} {call.node.name} {line.ident}[{line.pid}]: {line.text}"
        for line, epoch in ((line, call.facts.epoch(line)) for line in call.node.journal)
        if (since is None or epoch >= since) and (until is None or epoch <= until)
    ]
    if last := call.number("lastentries"):
        lines = lines[-last:]
    cursor = f"s={digest(call.node.name)[:32]};i={len(call.node.journal):x}"
    return [cursor, *lines, cursor]


# --- guests -----------------------------------------------------------------------------------------------------------


@_route("GET", "/nodes/{node}/{kind:qemu|lxc}")
def guests(call: Call, node: str, kind: str) -> list[dict[str, Any]]:
    """The guests whose configuration lies on this node."""
    here = (
        guest
        for guest in call.facts.world.guests.values()
        if call.facts.view.config_nodes[guest.vmid] == call.node.name
    )
    return [_guest_entry(call.facts, guest) for guest in here if _folder(guest) == kind]


@_route("GET", "/nodes/{node}/{kind:qemu|lxc}/{vmid}/status/current")
def guest_status(call: Call, node: str, kind: str, vmid: str) -> dict[str, Any]:
    """One guest as its node sees it now."""
    guest = _guest(call, kind, vmid)
    entry = _guest_entry(call.facts, guest)
    shown = call.facts.service_shown(guest.sid)
    ha: dict[str, Any] = {"managed": 0} if shown is None else {"managed": 1, "state": shown}
    entry |= {"ha": ha}
    if kind == "qemu":
        paused = entry["status"] == "running" and guest.vmid in call.facts.world.mishaps.paused
        entry |= {"clipboard": None, "qmpstatus": "paused" if paused else entry["status"], "agent": 1}
    return entry


@_route("GET", "/nodes/{node}/{kind:qemu|lxc}/{vmid}/config")
def guest_config(call: Call, node: str, kind: str, vmid: str) -> dict[str, Any]:
    """One guest's configuration."""
    guest = _guest(call, kind, vmid)
    memory = str(guest.spec.memory_bytes // (1 << 20))
    entry = {"digest": digest("config", vmid), "memory": memory}
    if kind == "lxc":
        return {**entry, "hostname": guest.name, "ostype": "debian", "arch": "amd64", "swap": 0}
    own_mac = call.facts.world.mishaps.own_mac
    if own_mac is not None and guest is next(iter(call.facts.world.guests.values())):
        entry["net0"] = f"virtio={own_mac.upper()},bridge=vmbr0"
    return {
        **entry,
        "agent": "1",
        "boot": " ",
        "meta": f"creation-qemu=10.1.2,ctime={call.facts.world.spec.epoch_utc}",
        "name": guest.name,
        "ostype": "l26",
        "serial0": "socket",
        "smbios1": f"uuid={stable_uuid('smbios', vmid)}",
        "vga": "none",
        "vmgenid": stable_uuid("vmgenid", vmid),
    }


@_route("POST", "/nodes/{node}/{kind:qemu|lxc}/{vmid}/status/{command:start|stop}")
def guest_command(call: Call, node: str, kind: str, vmid: str, command: str) -> str:
    """A task's UPID. For an HA guest the task only writes the request: its OK is not the guest's."""
    guest = _guest(call, kind, vmid)
    world = call.facts.world
    act = world.start_guest if command == "start" else world.stop_guest
    return _asked(lambda: act(guest.vmid, call.user))


def _asked(act: Callable[[], str]) -> str:
    """What the act returned; PVE's refusals are plain 500s."""
    try:
        return act()
    except Refused as refused:
        raise ApiError(500, str(refused)) from None


def _folder(guest: Guest) -> str:
    return "qemu" if guest.kind == "vm" else "lxc"


def _guest(call: Call, kind: str, vmid: str) -> Guest:
    """The guest, if its configuration lies here; PVE knows no other."""
    if not vmid.isdigit():
        raise ApiError(400, PARAMETERS, {"vmid": f"type check ('integer') failed - got '{vmid}'"})
    guest = call.facts.world.guests.get(int(vmid))
    if guest is None or call.facts.view.config_nodes[guest.vmid] != call.node.name or _folder(guest) != kind:
        folder = "qemu-server" if kind == "qemu" else "lxc"
        raise ApiError(500, f"Configuration file 'nodes/{call.node.name}/{folder}/{vmid}.conf' does not exist")
    return guest


def _guest_entry(facts: Facts, guest: Guest) -> dict[str, Any]:
    uptime = facts.process_uptime(guest)
    entry: dict[str, Any] = {
        "cpu": 0,
        "cpus": 1,
        "disk": 0,
        "maxdisk": 0,
        "maxmem": guest.spec.memory_bytes,
        "mem": 0,
        "memhost": 0,
        "name": guest.name,
        "netin": 0,
        "netout": 0,
        "status": "stopped" if uptime is None else "running",
        "uptime": int(uptime or 0),
        "vmid": guest.vmid,
    }
    if guest.kind == "vm":
        entry["serial"] = 1
    else:
        entry["type"] = "lxc"
    if uptime is not None:
        pressures = ("cpufull", "cpusome", "iofull", "iosome", "memoryfull", "memorysome")
        entry |= {f"pressure{name}": 0 for name in pressures}
        entry["pid"] = guest.processes[facts.node.name].pid
    return entry


# --- tasks ------------------------------------------------------------------------------------------------------------

_UPID = re.compile(r"UPID:[^:]+:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:[^:\s]+:[^:\s]*:[^:\s]+:")


@_route("GET", "/nodes/{node}/tasks")
def node_tasks(call: Call, node: str) -> Listing:
    """The node's tasks, newest first."""
    found = sorted(call.node.tasks, key=lambda task: task.starttime, reverse=True)
    limit = call.number("limit") or 50
    entries = [{**_task_entry(task), "pid": task.pid, "pstart": task.pstart} for task in found[:limit]]
    return Listing(entries, len(found))


@_route("GET", "/nodes/{node}/tasks/{upid}/status")
def task_status(call: Call, node: str, upid: str) -> dict[str, Any]:
    """Whether a task runs, or how it ended."""
    task = _task(call, upid)
    entry = {**_task_entry(task), "pid": task.pid, "pstart": task.pstart}
    entry.pop("endtime", None)
    entry["status"] = "running" if task.endtime is None else "stopped"
    return entry if task.endtime is None else {**entry, "exitstatus": task.exitstatus}


@_route("GET", "/nodes/{node}/tasks/{upid}/log")
def task_log(call: Call, node: str, upid: str) -> Listing:
    """What a task wrote."""
    lines = _task(call, upid).log
    start, limit = call.number("start") or 0, call.number("limit") or 50
    shown = [{"n": number, "t": text} for number, text in enumerate(lines, 1)]
    return Listing(shown[start : start + limit], len(lines))


def _task_entry(task: Task) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": task.id,
        "node": task.node,
        "starttime": task.starttime,
        "type": task.type,
        "upid": task.upid,
        "user": task.user,
    }
    return entry if task.endtime is None else {**entry, "endtime": task.endtime, "status": task.exitstatus}


def _task(call: Call, upid: str) -> Task:
    if not _UPID.fullmatch(upid):
        raise ApiError(400, PARAMETERS, {"upid": f"unable to parse worker upid '{upid}'"})
    for task in call.node.tasks:
        if task.upid == upid:
            return task
    raise ApiError(400, PARAMETERS, {"upid": "no such task"})
