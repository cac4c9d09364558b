"""The cluster, as its REST API tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pytest_pveha.clock import Deadline, Instant
from pytest_pveha.errors import ProtocolError
from pytest_pveha.wire.pve_api import PveApi, Reply

_RING = re.compile(r"ring[0-7]_addr")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_UUID = re.compile(r"uuid=([0-9A-Fa-f-]{36})")
_MIGRATED = "have been migrated to rules"
"""What PVE 9 says, with status 500, of HA groups it no longer has (recorded on PVE 9.1.9)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """When a reading was asked for and answered, and by which endpoint: what it says was true somewhere between."""

    at: Instant
    answered: Instant
    endpoint: str


@dataclass(frozen=True, slots=True)
class Membership:
    """GET /cluster/status: one node's view of quorum and members."""

    cluster: str
    quorate: bool
    online: Mapping[str, bool]
    asked: Asked
    local: str = ""
    """The node that answered, by its own word; empty where it did not say."""


@dataclass(frozen=True, slots=True)
class Service:
    """One HA service in manager_status: the CRM's state and the node it has it on."""

    state: str
    node: str
    running: bool


@dataclass(frozen=True, slots=True)
class Lrm:
    """One node's LRM as it last wrote itself down; ``timestamp`` is that node's clock, whole epoch seconds."""

    state: str
    mode: str
    timestamp: int

    @property
    def guards(self) -> bool:
        """Whether it holds its node's lock, and with it the watchdog.

        One that was called back from maintenance before its last service had left stays in that state and guards them
        until it has none (pve-ha-manager 5.2, LRM.pm).
        """
        return self.state == "active" or (self.state == "maintenance" and self.mode == "active")


@dataclass(frozen=True, slots=True)
class Manager:
    """GET /cluster/ha/status/manager_status: the best single source of the HA manager's mind."""

    master: str
    timestamp: int
    nodes: Mapping[str, str]
    services: Mapping[str, Service]
    lrms: Mapping[str, Lrm]
    quorate: bool
    asked: Asked
    maintenance: frozenset[str] = frozenset()
    """Nodes that were asked into maintenance, are in it, or whose LRM is."""


@dataclass(frozen=True, slots=True)
class GuestRow:
    """A guest in GET /cluster/resources. A dead node's guests go on saying "running" there for minutes."""

    sid: str
    name: str
    node: str
    status: str
    ha_state: str | None
    memory: int
    """Bytes it was promised."""
    lock: str = ""
    """What holds it: ``backup``, ``migrate``, ``clone`` …; empty if nothing does."""
    template: bool = False


@dataclass(frozen=True, slots=True)
class Totem:
    """Corosync's timing: ``token`` in seconds, as it follows from the configuration and the number of nodes."""

    token: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What HA is configured to do. None: this version has no such thing."""

    rules: Mapping[str, Mapping[str, str]] | None
    groups: Mapping[str, Mapping[str, str]] | None
    resources: Mapping[str, Mapping[str, str]]

    def candidates(self) -> dict[str, frozenset[str]]:
        """The only nodes each service may run on, where a strict rule or a restricted group says so."""
        found: dict[str, frozenset[str]] = {}
        for rule in (self.rules or {}).values():
            if rule.get("type") == "node-affinity" and _truth(rule.get("strict")) and not _truth(rule.get("disable")):
                for sid in rule.get("resources", "").split(","):
                    found[sid] = _names(rule.get("nodes", ""))
        for sid, resource in self.resources.items():
            group = (self.groups or {}).get(resource.get("group", ""))
            if group is not None and _truth(group.get("restricted")):
                found[sid] = _names(group.get("nodes", ""))
        return found


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that has not ended."""

    type: str
    id: str
    node: str


class Cluster:
    """The cluster by its API endpoints. Keeps no state."""

    def __init__(self, api: PveApi) -> None:
        self._api = api

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What ``at`` may name: nodes, and addresses that are not known to be one node's."""
        return tuple(endpoint.name for endpoint in self._api.endpoints)

    def shun(self, nodes: frozenset[str]) -> None:
        """These nodes' endpoints are not asked unless named: they are down, or see another cluster than the rest."""
        self._api.shunned = nodes

    def membership(self, deadline: Deadline, at: str | None = None) -> Membership:
        """Quorum and members as the endpoint ``at`` (or whichever answers) sees them."""
        reply = self._api.get("/cluster/status", deadline=deadline, at=at)
        rows = _rows(reply, "/cluster/status")
        cluster = next((row for row in rows if row.get("type") == "cluster"), None)
        nodes = {str(row["name"]): _truth(row.get("online")) for row in rows if row.get("type") == "node"}
        if cluster is None:
            raise ProtocolError(
                "GET /cluster/status names no cluster: this node stands alone; is it the right endpoint?"
            )
        local = next((str(row["name"]) for row in rows if row.get("type") == "node" and _truth(row.get("local"))), "")
        return Membership(str(cluster["name"]), _truth(cluster.get("quorate")), nodes, _asked(reply), local)

    def manager(self, deadline: Deadline, at: str | None = None) -> Manager:
        """The HA manager's status."""
        path = "/cluster/ha/status/manager_status"
        reply = self._api.get(path, deadline=deadline, at=at)
        body = _mapping(reply.value, path)
        status = _mapping(body.get("manager_status"), path)
        nodes = {str(name): str(state) for name, state in _mapping(status.get("node_status", {}), path).items()}
        lrms = _mapping(body.get("lrm_status", {}), path)
        requests = _mapping(status.get("node_request", {}), path)
        return Manager(
            master=str(status.get("master_node", "")),
            timestamp=int(status.get("timestamp", 0)),
            nodes=nodes,
            services={
                str(sid): Service(str(row.get("state")), str(row.get("node")), _truth(row.get("running")))
                for sid, row in _mapping(status.get("service_status", {}), path).items()
            },
            lrms={
                str(name): Lrm(str(row.get("state")), str(row.get("mode")), int(row.get("timestamp", 0)))
                for name, row in lrms.items()
            },
            quorate=_truth(_mapping(body.get("quorum", {}), path).get("quorate")),
            asked=_asked(reply),
            maintenance=frozenset(
                [str(name) for name, row in requests.items() if _truth(_mapping(row, path).get("maintenance"))]
                + [name for name, state in nodes.items() if state == "maintenance"]
                + [str(name) for name, row in lrms.items() if row.get("mode") == "maintenance"]
            ),
        )

    def guests(self, deadline: Deadline) -> dict[str, GuestRow]:
        """Every guest of the cluster, HA or not, by service id (``vm:101``)."""
        rows = _rows(self._api.get("/cluster/resources", deadline=deadline, type="vm"), "/cluster/resources")
        found = {}
        for row in rows:
            if row.get("type") not in ("qemu", "lxc"):
                continue
            sid = f"{'vm' if row['type'] == 'qemu' else 'ct'}:{row['vmid']}"
            found[sid] = GuestRow(
                sid,
                str(row.get("name", "")),
                str(row["node"]),
                str(row.get("status")),
                row.get("hastate"),
                int(row.get("maxmem", 0)),
                str(row.get("lock") or ""),
                _truth(row.get("template")),
            )
        return found

    def guest_status(self, sid: str, node: str, deadline: Deadline) -> str:
        """``running``, ``stopped`` or ``paused``, as the guest's own node sees it now; not what it last broadcast."""
        path = f"{_guest_path(sid, node)}/status/current"
        body = _mapping(self._api.get(path, deadline=deadline).value, path)
        return str(body.get("qmpstatus") if body.get("qmpstatus") == "paused" else body.get("status"))

    def ha_rules(self, deadline: Deadline) -> Rules:
        """Rules (PVE 9), groups (before) and resources of HA, as configured."""
        path = "/cluster/ha/resources"
        resources = {str(row["sid"]): _plain(row, "sid") for row in _rows(self._api.get(path, deadline=deadline), path)}
        return Rules(
            self._table("/cluster/ha/rules", "rule", deadline),
            self._table("/cluster/ha/groups", "group", deadline),
            resources,
        )

    def _table(self, path: str, key: str, deadline: Deadline) -> dict[str, dict[str, str]] | None:
        try:
            rows = _rows(self._api.get(path, deadline=deadline), path)
        except ProtocolError as error:
            if error.status == HTTPStatus.NOT_IMPLEMENTED or _MIGRATED in str(error):
                return None
            raise
        return {str(row[key]): _plain(row, key) for row in rows}

    def options(self, deadline: Deadline) -> dict[str, Any]:
        """The datacenter's options. Without Sys.Audit PVE leaves most of them out."""
        path = "/cluster/options"
        return _mapping(self._api.get(path, deadline=deadline).value, path)

    def memory(self, deadline: Deadline) -> dict[str, tuple[int, int]]:
        """Total and used bytes of every node that is online."""
        rows = _rows(self._api.get("/cluster/resources", deadline=deadline, type="node"), "/cluster/resources")
        return {
            str(row["node"]): (int(row["maxmem"]), int(row["mem"]))
            for row in rows
            if row.get("type") == "node" and row.get("status") == "online" and "mem" in row
        }

    def votes(self, deadline: Deadline) -> dict[str, int]:
        """Each node's votes as configured; PVE writes them as text."""
        path = "/cluster/config/nodes"
        rows = _rows(self._api.get(path, deadline=deadline), path)
        return {str(row.get("node") or row["name"]): int(row.get("quorum_votes", 1)) for row in rows}

    def ring_addresses(self, deadline: Deadline) -> dict[str, tuple[str, ...]]:
        """Each node's addresses on the corosync links, in the order of the links."""
        path = "/cluster/config/nodes"
        rows = _rows(self._api.get(path, deadline=deadline), path)
        return {
            str(row.get("node") or row["name"]): tuple(str(row[key]) for key in sorted(row) if _RING.fullmatch(key))
            for row in rows
        }

    def totem(self, deadline: Deadline, nodes: int) -> Totem:
        """The token's time: token + (nodes − 2) × token_coefficient from three nodes on, corosync.conf(5)."""
        path = "/cluster/config/totem"
        body = _mapping(self._api.get(path, deadline=deadline).value, path)
        token, coefficient = int(body.get("token", 3000)), int(body.get("token_coefficient", 650))
        return Totem((token + max(0, nodes - 2) * coefficient) / 1000)

    def armed(self, deadline: Deadline) -> bool | None:
        """Whether HA may fence; None where it should say and does not.

        Before pve-ha-manager 5.1.3 nothing says so, for nothing can disarm it; since then each LRM's line tells of its
        watchdog, too.
        """
        path = "/cluster/ha/status/current"
        rows = _rows(self._api.get(path, deadline=deadline), path)
        states = [str(row["armed-state"]) for row in rows if row.get("type") == "fencing" and "armed-state" in row]
        if states:
            return all(state in ("armed", "standby") for state in states)
        lrms = [str(row.get("status")) for row in rows if row.get("type") == "lrm"]
        return True if lrms and not any("watchdog" in status for status in lrms) else None

    def qdevice_connected(self, deadline: Deadline) -> bool:
        """Whether the quorum device votes, as the node that answers sees it."""
        path = "/cluster/config/qdevice"
        return _mapping(self._api.get(path, deadline=deadline).value, path).get("State") == "Connected"

    def running_tasks(self, deadline: Deadline) -> tuple[RunningTask, ...]:
        """Tasks of any node that have not ended."""
        rows = _rows(self._api.get("/cluster/tasks", deadline=deadline), "/cluster/tasks")
        return tuple(
            RunningTask(str(row.get("type")), str(row.get("id", "")), str(row.get("node")))
            for row in rows
            if not row.get("endtime")
        )

    def guest_identities(self, deadline: Deadline, guests: Mapping[str, GuestRow]) -> dict[str, str]:
        """What each guest's machine can be told by, in lower case: MAC addresses, and the UUID its board shows."""
        found = {}
        for sid, guest in guests.items():
            path = f"{_guest_path(sid, guest.node)}/config"
            for key, value in _mapping(self._api.get(path, deadline=deadline).value, path).items():
                pattern = _MAC if key.startswith("net") else _UUID if key == "smbios1" else None
                if pattern is not None and (match := pattern.search(str(value))):
                    found[(match[1] if match.groups() else match[0]).lower()] = sid
        return found

    def versions(self, deadline: Deadline, node: str) -> str:
        """The node's pve-manager version."""
        reply = self._api.get(f"/nodes/{node}/version", deadline=deadline)
        return str(_mapping(reply.value, f"/nodes/{node}/version").get("version", ""))

    def go_down(self, node: str, command: str, deadline: Deadline) -> None:
        """The node has been told to ``reboot`` or ``shutdown`` in good order; it begins two seconds later."""
        self._api.post(f"/nodes/{node}/status", deadline=deadline, command=command)

    def migrate(self, sid: str, node: str, deadline: Deadline) -> None:
        """The HA manager has been asked to move the service; it only queues the request."""
        self._api.post(f"/cluster/ha/resources/{sid}/migrate", deadline=deadline, node=node)

    def request(self, sid: str, state: str, deadline: Deadline) -> None:
        """The HA manager has been asked to have the service ``started``, ``stopped`` or ``disabled``."""
        self._api.put(f"/cluster/ha/resources/{sid}", deadline=deadline, state=state)

    def start(self, sid: str, node: str, deadline: Deadline) -> str:
        """A guest's start has been asked for; returns the task."""
        return str(self._api.post(f"{_guest_path(sid, node)}/status/start", deadline=deadline).value)


def _guest_path(sid: str, node: str) -> str:
    kind, number = sid.split(":")
    return f"/nodes/{node}/{'qemu' if kind == 'vm' else 'lxc'}/{number}"


def _plain(row: Mapping[str, Any], key: str) -> dict[str, str]:
    """A row of configuration as texts, without its key, its digest and its place in the list."""
    return {str(name): str(value) for name, value in sorted(row.items()) if name not in (key, "digest", "order")}


def _names(nodes: str) -> frozenset[str]:
    """The nodes of ``n1:2,n2``."""
    return frozenset(one.partition(":")[0] for one in nodes.split(",") if one)


def _truth(value: Any) -> bool:
    """PVE's booleans: 0/1 integers, now and then strings (both "1" and 1 for ``quorate``, recorded on 9.1.9)."""
    return str(value) in ("1", "True", "true")


def _asked(reply: Reply) -> Asked:
    return Asked(reply.asked_at, reply.answered_at, reply.endpoint)


def _rows(reply: Reply, path: str) -> list[dict[str, Any]]:
    if not isinstance(reply.value, list) or not all(isinstance(row, dict) for row in reply.value):
        raise ProtocolError(f"GET {path}: expected a list of objects, got {type(reply.value).__name__}")
    return reply.value


def _mapping(value: Any, path: str) -> dict[str, Any]:
    if value in (None, []):  # Perl's empty hash may come as an empty list
        return {}
    if not isinstance(value, dict):
        raise ProtocolError(f"GET {path}: expected an object, got {type(value).__name__}")
    return value
