"""The cluster, as its REST API tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.clock import Deadline, Instant
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.reading import Said, an_object, kind, once, some_rows
from pytest_pveha.wire.pve_api import PveApi, Reply, api_path

FRESH = 30
"""Seconds after which PVE calls a status stamp old (pve-ha-manager API2/HA/Status.pm)."""

_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


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

    def fresh(self, node: str) -> bool:
        """Whether that node's LRM wrote its status just now, by the master's clock.

        A stamp from the future is no fresh one: a node whose clock is ahead would look alive long after its death.
        """
        lrm = self.lrms.get(node)
        return lrm is not None and abs(self.timestamp - lrm.timestamp) <= FRESH


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


@dataclass(frozen=True, slots=True)
class Totem:
    """Corosync's timing: ``token`` in seconds, as it follows from the configuration and the number of nodes."""

    token: float


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

    def membership(self, deadline: Deadline, at: str | None = None) -> Membership:
        """Quorum and members as the endpoint ``at`` (or whichever answers) sees them.

        Raises:
            ProtocolError: also where another node answers at the address of that endpoint: what it says of itself
                would be taken for the other one's word.
        """
        path = "/cluster/status"
        reply = self._api.get(path, deadline=deadline, at=at)
        rows = some_rows(reply.value, f"GET {path}")
        clusters = [row for row in rows if row.values.get("type") == "cluster"]
        if len(clusters) != 1:
            raise ProtocolError(
                f"GET {path} names {'no cluster: this node stands alone' if not clusters else 'several clusters'}; "
                f"is {reply.endpoint} the right endpoint?"
            )
        members = [row for row in rows if row.values.get("type") == "node"]
        online = once(((row.name("name"), row.truth("online")) for row in members), f"GET {path}")
        here = [row.name("name") for row in members if row.truth("local", False)]
        if reply.endpoint in online and here and here != [reply.endpoint]:
            raise ProtocolError(
                f"GET {path}: at the address of {reply.endpoint} another node answers, {' and '.join(here)}: addresses "
                f"were exchanged, or the inventory's endpoints are; nothing it says is believed"
            )
        return Membership(clusters[0].word("name"), clusters[0].truth("quorate"), online, _asked(reply))

    def manager(self, deadline: Deadline, at: str | None = None) -> Manager:
        """The HA manager's status."""
        path = "/cluster/ha/status/manager_status"
        reply = self._api.get(path, deadline=deadline, at=at)
        body = an_object(reply.value, f"GET {path}")
        status = body.part("manager_status")
        states = status.part("node_status")
        return Manager(
            master=status.word("master_node", ""),
            # a cluster that never had an HA resource has no manager, and so nothing with an age
            timestamp=status.count("timestamp") if status.values else 0,
            nodes={name: states.word(name) for name in states.values},
            services={
                sid: Service(row.word("state"), row.word("node"), row.truth("running", False))
                for sid, row in status.part("service_status").parts()
            },
            lrms={
                name: Lrm(row.word("state"), row.word("mode", ""), row.count("timestamp"))
                for name, row in body.part("lrm_status").parts()
                if row.values  # an LRM that has not written itself down yet
            },
            quorate=body.part("quorum", needed=True).truth("quorate"),
            asked=_asked(reply),
        )

    def guests(self, deadline: Deadline) -> dict[str, GuestRow]:
        """Every guest of the cluster, HA or not, by service id (``vm:101``)."""
        path = "/cluster/resources"
        rows = self._rows(path, deadline, type="vm")
        return once(
            (
                (guest.sid, guest)
                for row in rows
                if row.values.get("type") in ("qemu", "lxc")
                for guest in [_guest(row)]
            ),
            f"GET {path}",
        )

    def resources(self, deadline: Deadline) -> dict[str, str]:
        """The HA resources that are configured, with their requested state."""
        path = "/cluster/ha/resources"
        rows = self._rows(path, deadline)
        return once(((row.word("sid"), row.word("state", "started")) for row in rows), f"GET {path}")

    def memory(self, deadline: Deadline) -> dict[str, tuple[int, int]]:
        """Total and used bytes of every node that is online."""
        path = "/cluster/resources"
        rows = self._rows(path, deadline, type="node")
        return once(
            (
                (row.name("node"), (row.count("maxmem"), row.count("mem")))
                for row in rows
                if row.values.get("type") == "node" and row.values.get("status") == "online" and "mem" in row.values
            ),
            f"GET {path}",
        )

    def votes(self, deadline: Deadline) -> dict[str, int]:
        """Each node's votes as configured; PVE writes them as text."""
        path = "/cluster/config/nodes"
        rows = self._rows(path, deadline)
        return once(
            ((row.name("node" if "node" in row.values else "name"), row.count("quorum_votes", 1)) for row in rows),
            f"GET {path}",
        )

    def totem(self, deadline: Deadline, nodes: int) -> Totem:
        """The token's time: token + (nodes − 2) × token_coefficient from three nodes on, corosync.conf(5)."""
        body = self._object("/cluster/config/totem", deadline)
        token, coefficient = body.count("token", 3000), body.count("token_coefficient", 650)
        return Totem((token + max(0, nodes - 2) * coefficient) / 1000)

    def armed(self, deadline: Deadline) -> bool | None:
        """Whether HA may fence; None where this version does not say (before pve-ha-manager 5.1.3)."""
        rows = self._rows("/cluster/ha/status/current", deadline)
        states = [
            row.word("armed-state")
            for row in rows
            if row.values.get("type") == "fencing" and "armed-state" in row.values
        ]
        return None if not states else all(state in ("armed", "standby") for state in states)

    def qdevice_connected(self, deadline: Deadline) -> bool:
        """Whether the quorum device votes, as the node that answers sees it."""
        return self._object("/cluster/config/qdevice", deadline).word("State", "") == "Connected"

    def running_tasks(self, deadline: Deadline) -> tuple[RunningTask, ...]:
        """Tasks of any node that have not ended."""
        return tuple(
            RunningTask(row.word("type"), row.word("id", ""), row.name("node"))
            for row in self._rows("/cluster/tasks", deadline)
            if not row.count("endtime", 0)
        )

    def guest_macs(self, deadline: Deadline, guests: Mapping[str, GuestRow]) -> dict[str, str]:
        """The guests' network cards, MAC → service id."""
        found = {}
        for sid, guest in guests.items():
            config = self._object(_guest_path(sid, guest.node, "config"), deadline)
            for key, value in config.values.items():
                if key.startswith("net") and (mac := _MAC.search(str(value))):
                    found[mac[0]] = sid
        return found

    def versions(self, deadline: Deadline, node: str) -> str:
        """The node's pve-manager version."""
        return self._object(api_path("nodes", node, "version"), deadline).word("version", "")

    def migrate(self, sid: str, node: str, deadline: Deadline) -> None:
        """The HA manager has been asked to move the service; it only queues the request."""
        self._api.post(api_path("cluster", "ha", "resources", sid, "migrate"), deadline=deadline, node=node)

    def start(self, sid: str, node: str, deadline: Deadline) -> str:
        """A guest's start has been asked for; returns the task."""
        path = _guest_path(sid, node, "status", "start")
        task = self._api.post(path, deadline=deadline).value
        if not isinstance(task, str):
            raise ProtocolError(f"POST {path}: expected the id of a task, got {kind(task)}; whether it runs is unknown")
        return task

    def _rows(self, path: str, deadline: Deadline, **params: str) -> list[Said]:
        return some_rows(self._api.get(path, deadline=deadline, **params).value, f"GET {path}")

    def _object(self, path: str, deadline: Deadline) -> Said:
        return an_object(self._api.get(path, deadline=deadline).value, f"GET {path}")


def _guest(row: Said) -> GuestRow:
    sid = f"{'vm' if row.values['type'] == 'qemu' else 'ct'}:{row.count('vmid')}"
    return GuestRow(
        sid,
        row.word("name", ""),
        row.name("node"),
        row.word("status", "unknown"),
        row.word("hastate") if row.values.get("hastate") is not None else None,
        row.count("maxmem", 0),
    )


def _guest_path(sid: str, node: str, *below: str) -> str:
    """The guest's path in the API; its node is the site's own word and gets no further than its segment."""
    which, _, number = sid.partition(":")
    return api_path("nodes", node, "qemu" if which == "vm" else "lxc", number, *below)


def _asked(reply: Reply) -> Asked:
    return Asked(reply.asked_at, reply.answered_at, reply.endpoint)
