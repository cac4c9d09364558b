"""``/version`` and ``/cluster``, but for HA: status, resources, corosync's configuration, options, recent tasks.

Field by field as recorded on a PVE 9.1.9 control plane.
"""

from __future__ import annotations

from typing import Any

from pytest_pveha.sim.servers.api_registry import AUDIT, PARAMETERS, ApiError, Call, route
from pytest_pveha.sim.servers.api_tasks import task_entry
from pytest_pveha.sim.servers.facts import REPOSITORY_ID, Facts
from pytest_pveha.sim.world.corosync import LARGE_TOKEN
from pytest_pveha.sim.world.model import Guest, Node
from pytest_pveha.sim.world.rules import listed

DISK = {"disk": 28635582464, "maxdisk": 270553174016}


@route("GET", "/version")
@route("GET", "/nodes/{node}/version")
def version(call: Call, node: str = "") -> dict[str, Any]:
    """The manager's version."""
    world = call.facts.world
    behind = world.planted("node-left-behind") and node == list(world.nodes)[-1]
    version = f"{call.facts.release}.0" if behind else world.spec.version
    return {"release": call.facts.release, "repoid": REPOSITORY_ID, "version": version}


@route("GET", "/cluster/status", AUDIT)
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


@route("GET", "/cluster/resources")
def cluster_resources(call: Call) -> list[dict[str, Any]]:
    """What the nodes last broadcast; ``type`` filters."""
    wanted = call.params.get("type")
    found: list[dict[str, Any]] = []
    if wanted in (None, "vm") and call.may("VM.Audit"):
        known = call.facts.view.config_nodes
        guests = (guest for guest in call.facts.world.guests.values() if guest.vmid in known)
        found += [_guest_resource(call.facts, guest) for guest in guests]
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


@route("GET", "/cluster/nextid")
def next_id(call: Call) -> str:
    """The lowest number that no guest has, or the one asked for if none has it."""
    used = {str(vmid) for vmid in call.facts.view.config_nodes}
    wanted = call.params.get("vmid")
    if wanted in used:
        raise ApiError(400, PARAMETERS, {"vmid": f"VM {wanted} already exists"})
    return wanted or next(str(number) for number in range(100, 10**9) if str(number) not in used)


def _node_resource(facts: Facts, node: Node) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "cgroup-mode": 2,
        "hastate": facts.ha_status["manager_status"].get("node_status", {}).get(node.name, "unknown"),
        **node_entry(facts, node),
    }
    return entry


def node_entry(facts: Facts, node: Node) -> dict[str, Any]:
    """A node as ``/nodes`` and ``/cluster/resources`` show it."""
    status = facts.node_shown(node)
    entry: dict[str, Any] = {
        "id": f"node/{node.name}",
        "level": "",
        "node": node.name,
        "status": status,
        "type": "node",
        "maxcpu": 8,
        "maxdisk": DISK["maxdisk"],
        "maxmem": node.spec.memory_bytes,
    }
    if status == "online":
        entry |= {"cpu": 0.05, "disk": DISK["disk"], "mem": used(node), "uptime": int(facts.uptime(node))}
    return entry


def used(node: Node) -> int:
    """Memory in use, bytes."""
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
        "maxdisk": DISK["maxdisk"],
        **({"disk": DISK["disk"]} if online else {}),
    }


@route("GET", "/cluster/config/nodes", AUDIT)
def config_nodes(call: Call) -> list[dict[str, str]]:
    """The node list of corosync.conf; every value is a string."""
    return [
        {
            "name": node.name,
            "node": node.name,
            "nodeid": str(node.nodeid),
            "quorum_votes": "1",
            **{f"ring{link}_addr": call.facts.address(node, link) for link in range(call.world.spec.links)},
        }
        for node in call.facts.world.nodes.values()
    ]


@route("GET", "/cluster/config/totem", AUDIT)
def config_totem(call: Call) -> dict[str, Any]:
    """The totem section of corosync.conf."""
    spec = call.facts.world.spec
    return {
        "cluster_name": spec.cluster,
        "config_version": str(len(spec.nodes)),
        "interface": {str(link): {"linknumber": str(link)} for link in range(spec.links)},
        "ip_version": "ipv4-6",
        "link_mode": "passive",
        "secauth": "on",
        **({"token": str(round(LARGE_TOKEN * 1000))} if call.world.planted("token-of-a-large-cluster") else {}),
        "token_coefficient": str(spec.token_coefficient),
        "version": "2",
    }


@route("GET", "/cluster/config/qdevice", AUDIT)
def config_qdevice(call: Call) -> dict[str, str]:
    """What the node's own daemon of the quorum device says; nothing without one."""
    return call.facts.qdevice


@route("GET", "/cluster/options")
def options(call: Call) -> dict[str, Any]:
    """The datacenter's options: what was set, and what is always there. Without Sys.Audit only the tags."""
    if not call.may("Sys.Audit"):
        return {"allowed-tags": []}
    return {"allowed-tags": [], "description": "", "mac_prefix": "BC:24:11", **call.facts.view.options}


_OBJECTS = ("ha", "crs", "migration")


@route("PUT", "/cluster/options", ("Sys.Modify",), lock="file-datacenter_cfg")
def set_options(call: Call) -> None:
    """Those options are set, or deleted; ``ha``, ``crs`` and ``migration`` are given as property strings."""
    call.only(*_OBJECTS, "max_workers", "description", "delete")
    options = call.world.pmxcfs.store.options
    for key in listed(call.params.get("delete", "")):
        options.pop(key, None)
    for key in call.params.keys() - {"delete"}:
        options[key] = _properties(call.params[key]) if key in _OBJECTS else call.params[key]
    if (workers := call.number("max_workers")) is not None:
        options["max_workers"] = workers


def _properties(text: str) -> dict[str, Any]:
    pairs = (word.partition("=") for word in listed(text))
    return {key: int(value) if value.isdigit() else value for key, _, value in pairs}


@route("GET", "/cluster/tasks")
def cluster_tasks(call: Call) -> list[dict[str, Any]]:
    """Recent tasks of all nodes, newest first."""
    return [{**task_entry(task), "saved": "1"} for task in call.facts.view.tasks]
