"""The cluster, as its REST API tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import ClassVar

from pytest_pveha.clock import Deadline, Instant
from pytest_pveha.errors import ProtocolError
from pytest_pveha.handles.drives import Hardware, hardware
from pytest_pveha.handles.reading import Said, an_object, kind, once, some_rows
from pytest_pveha.wire.pve_api import PveApi, Reply, api_path

FRESH = 30
"""Seconds after which PVE calls a status stamp old (pve-ha-manager API2/HA/Status.pm)."""

_RING = re.compile(r"ring[0-7]_addr")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")
_UUID = re.compile(r"uuid=([0-9A-Fa-f-]{36})")
_MIGRATED = "have been migrated to rules"
"""What PVE 9 says, with status 500, of HA groups it no longer has (recorded on PVE 9.1.9)."""
_NO_SETTING = ("digest", "order", "errors")
"""What a row of configuration says beside what is configured: what it was told, and PVE's own mind of it."""


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
    def guarded(self) -> bool:
        """Whether it holds its node's agent lock, and with it the watchdog.

        One that is called back from maintenance while it still has a guest keeps both, and goes on calling its state
        ``maintenance`` until it has none (pve-ha-manager 5.2, LRM.pm; seen on PVE 9.2).
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
    lock: str = ""
    """What holds it: ``backup``, ``migrate``, ``clone`` …; empty if nothing does."""
    template: bool = False


@dataclass(frozen=True, slots=True)
class Totem:
    """Corosync's timing: ``token`` in seconds, as it follows from the configuration and the number of nodes."""

    token: float
    consensus: float | None = None
    """Seconds, where somebody set them; else it follows from the token."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What HA is configured to do. None: this version has no such thing."""

    rules: Mapping[str, Mapping[str, str]] | None
    groups: Mapping[str, Mapping[str, str]] | None
    resources: Mapping[str, Mapping[str, str]]
    broken: Mapping[str, str] = field(default_factory=dict)
    """Rules that HA does not follow, though they are there and not disabled, and why (pve-ha-manager, Rules.pm)."""

    @property
    def followed(self) -> dict[str, Mapping[str, str]]:
        """The rules in force, by name."""
        return {
            name: rule
            for name, rule in (self.rules or {}).items()
            if not _set(rule.get("disable")) and name not in self.broken
        }

    def candidates(self) -> dict[str, frozenset[str]]:
        """The only nodes each service may run on, where a strict rule or a restricted group says so."""
        found: dict[str, frozenset[str]] = {}
        for rule in self.followed.values():
            if rule.get("type") == "node-affinity" and _set(rule.get("strict")):
                for sid in rule.get("resources", "").split(","):
                    found[sid] = _names(rule.get("nodes", ""))
        for sid, resource in self.resources.items():
            group = (self.groups or {}).get(resource.get("group", ""))
            if group is not None and _set(group.get("restricted")):
                found[sid] = _names(group.get("nodes", ""))
        return found


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that has not ended."""

    type: str
    id: str
    node: str


NOBODY = Manager("", 0, {}, {}, {}, quorate=False, asked=Asked(Instant(0, 0), Instant(0, 0), ""))
"""Where there is no HA manager: it leads nobody and has no service."""


class Cluster:
    """The cluster by its API endpoints. Keeps no state."""

    proxmox: ClassVar[bool] = True
    """Whether there is a Proxmox to ask."""

    def __init__(self, api: PveApi) -> None:
        self._api = api

    @property
    def endpoints(self) -> tuple[str, ...]:
        """What ``at`` may name: nodes, and addresses that are not known to be one node's."""
        return tuple(endpoint.name for endpoint in self._api.endpoints)

    def shun(self, because: str, nodes: frozenset[str]) -> None:
        """For that reason, and until it says otherwise, these nodes' endpoints are not asked unless named: they are
        down, or see another cluster than the rest."""
        self._api.shun(because, nodes)

    @property
    def shunned(self) -> frozenset[str]:
        """The nodes that are not asked unless named, for whatever reason."""
        return self._api.shunned

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
        local = here[0] if len(here) == 1 else ""
        return Membership(clusters[0].word("name"), clusters[0].truth("quorate"), online, _asked(reply), local)

    def manager(self, deadline: Deadline, at: str | None = None) -> Manager:
        """The HA manager's status."""
        path = "/cluster/ha/status/manager_status"
        reply = self._api.get(path, deadline=deadline, at=at)
        body = an_object(reply.value, f"GET {path}")
        status = body.part("manager_status")
        states = status.part("node_status")
        nodes = {name: states.word(name) for name in states.values}
        lrms = {
            name: Lrm(row.word("state"), row.word("mode", ""), row.count("timestamp"))
            for name, row in body.part("lrm_status").parts()
            if row.values  # an LRM that has not written itself down yet
        }
        return Manager(
            master=status.word("master_node", ""),
            # a cluster that never had an HA resource has no manager, and so nothing with an age
            timestamp=status.count("timestamp") if status.values else 0,
            nodes=nodes,
            services={
                sid: Service(row.word("state"), row.word("node"), row.truth("running", False))
                for sid, row in status.part("service_status").parts()
            },
            lrms=lrms,
            quorate=body.part("quorum", needed=True).truth("quorate"),
            asked=_asked(reply),
            maintenance=frozenset(
                [name for name, row in status.part("node_request").parts() if row.truth("maintenance", False)]
                + [name for name, state in nodes.items() if state == "maintenance"]
                + [name for name, lrm in lrms.items() if lrm.mode == "maintenance"]
            ),
        )

    def leading(self, deadline: Deadline) -> Manager:
        """The HA manager's status, for whoever chooses nodes by it; ``NOBODY`` where there is none to ask."""
        return self.manager(deadline)

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

    def guest_status(self, sid: str, node: str, deadline: Deadline) -> str:
        """``running``, ``stopped``, ``paused`` or ``io-error``, as the guest's own node sees it now; not what it last
        broadcast."""
        said = self._object(_guest_path(sid, node, "status", "current"), deadline)
        told = said.word("qmpstatus", "")
        return told if told in ("paused", "io-error") else said.word("status")

    def ha_rules(self, deadline: Deadline) -> Rules:
        """Rules (PVE 9), groups (before) and resources of HA, as configured."""
        rules = self._version_has("/cluster/ha/rules", deadline)
        groups = self._version_has("/cluster/ha/groups", deadline)
        return Rules(
            None if rules is None else _settings(rules, "rule"),
            None if groups is None else _settings(groups, "group"),
            _settings(self._rows("/cluster/ha/resources", deadline), "sid"),
            {row.word("rule"): _errors(row) for row in rules or () if row.values.get("errors")},
        )

    def _version_has(self, path: str, deadline: Deadline) -> list[Said] | None:
        try:
            return self._rows(path, deadline)
        except ProtocolError as error:
            if error.status == HTTPStatus.NOT_IMPLEMENTED or _MIGRATED in str(error):
                return None
            raise

    def options(self, deadline: Deadline, *names: str) -> dict[str, str | dict[str, str]]:
        """These of the datacenter's options, each a text or its parts; what is not set is left out.

        Without Sys.Audit PVE leaves most of them out.
        """
        said = self._object("/cluster/options", deadline)
        return {
            name: said.part(name).texts() if isinstance(said.values[name], dict | list) else said.word(name)
            for name in names
            if said.values.get(name) is not None
        }

    def max_workers(self, deadline: Deadline) -> int:
        """How many guests an LRM starts or moves at a time (datacenter.cfg(5): 4 unless said).

        Raises:
            ProtocolError: it is set to something else than a number.
        """
        said = self.options(deadline, "max_workers").get("max_workers", "4")
        if not isinstance(said, str) or not said.isdecimal() or not int(said):
            raise ProtocolError(f"GET /cluster/options: max_workers is {said!r}, expected a number")
        return int(said)

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

    def processors(self, deadline: Deadline) -> dict[str, int]:
        """The processors of every node by its name, and of every guest by its service id."""
        path = "/cluster/resources"
        kinds = {"qemu": "vm", "lxc": "ct"}
        found = {}
        for row in self._rows(path, deadline):
            kind = row.values.get("type")
            if kind == "node" and "maxcpu" in row.values:
                found[row.name("node")] = row.count("maxcpu")
            elif kind in kinds and "maxcpu" in row.values:
                found[f"{kinds[str(kind)]}:{row.count('vmid')}"] = row.count("maxcpu")
        return found

    def votes(self, deadline: Deadline) -> dict[str, int]:
        """Each node's votes as configured; PVE writes them as text."""
        path = "/cluster/config/nodes"
        rows = self._rows(path, deadline)
        return once(((_named(row), row.count("quorum_votes", 1)) for row in rows), f"GET {path}")

    def node_ids(self, deadline: Deadline) -> dict[str, int]:
        """Each node's id in corosync; PVE writes them as text."""
        path = "/cluster/config/nodes"
        return once(((_named(row), row.count("nodeid", 0)) for row in self._rows(path, deadline)), f"GET {path}")

    def ring_addresses(self, deadline: Deadline) -> dict[str, tuple[str, ...]]:
        """Each node's addresses on the corosync links, in the order of the links."""
        path = "/cluster/config/nodes"
        return once(
            (
                (_named(row), tuple(row.word(key) for key in sorted(row.values) if _RING.fullmatch(key)))
                for row in self._rows(path, deadline)
            ),
            f"GET {path}",
        )

    def totem(self, deadline: Deadline, nodes: int) -> Totem:
        """The token's time: token + (nodes − 2) × token_coefficient from three nodes on, corosync.conf(5)."""
        body = self._object("/cluster/config/totem", deadline)
        token, coefficient = body.count("token", 3000), body.count("token_coefficient", 650)
        consensus = body.count("consensus", 0) / 1000 or None
        return Totem((token + max(0, nodes - 2) * coefficient) / 1000, consensus)

    def armed(self, deadline: Deadline) -> bool | None:
        """Whether HA may fence; None where it should say and does not.

        Before pve-ha-manager 5.1.3 nothing says so, for nothing can disarm it; since then each LRM's line tells of its
        watchdog, too.
        """
        rows = self._rows("/cluster/ha/status/current", deadline)
        states = [
            row.word("armed-state")
            for row in rows
            if row.values.get("type") == "fencing" and "armed-state" in row.values
        ]
        if states:
            return all(state in ("armed", "standby") for state in states)
        lrms = [row.word("status") for row in rows if row.values.get("type") == "lrm"]
        return True if lrms and not any("watchdog" in status for status in lrms) else None

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

    def guest_identities(self, deadline: Deadline, guests: Mapping[str, GuestRow]) -> dict[str, str]:
        """What each guest's machine can be told by, in lower case: MAC addresses, and the UUID its board shows."""
        found = {}
        for sid, guest in guests.items():
            config = self._object(_guest_path(sid, guest.node, "config"), deadline)
            for key in config.values:
                pattern = _MAC if key.startswith("net") else _UUID if key == "smbios1" else None
                if pattern is not None and (match := pattern.search(config.word(key))):
                    found[(match[1] if match.groups() else match[0]).lower()] = sid
        return found

    def failed_requests(self, sid: str, node: str, deadline: Deadline) -> int:
        """How many requests to a VM's disks have failed since its QEMU began, by QEMU's own count.

        ``blockstat`` is QMP's query-blockstats; a guest is given an error for each of these (qemu-server, vmstatus).
        ProtocolError where it is not told: the VM does not run, or its QEMU does not answer.
        """
        said = self._object(_guest_path(sid, node, "status", "current"), deadline)
        if "blockstat" not in said.values:
            raise ProtocolError(f"{said.where}: no blockstat, so what failed on the disks of {sid} is not known")
        kinds = ("failed_rd_operations", "failed_wr_operations", "failed_flush_operations")
        return sum(row.count(kind, 0) for _, row in said.part("blockstat").parts() for kind in kinds)

    def hardware(self, sid: str, node: str, deadline: Deadline) -> Hardware:
        """The disks, media and devices of a guest whose configuration lies on that node."""
        return hardware(self._object(_guest_path(sid, node, "config"), deadline).texts(without=("lxc", "pending")))

    def privileges(self, path: str, deadline: Deadline) -> dict[str, bool]:
        """What our token may on that path of the access control, and whether also on all below it.

        A privilege is there when it is named, whatever is said of what lies below (pve-access-control,
        RPCEnvironment.pm). Each path is asked by itself: the whole tree leaves out where nothing is allowed.
        """
        where = "GET /access/permissions"
        reply = self._api.get("/access/permissions", deadline=deadline, path=path)
        found = an_object(reply.value, where).part(path)
        return {name: found.truth(name) for name in found.values if found.values[name] is not None}

    def versions(self, deadline: Deadline, node: str) -> str:
        """The node's pve-manager version."""
        return self._object(api_path("nodes", node, "version"), deadline).word("version", "")

    def go_down(self, node: str, command: str, deadline: Deadline) -> None:
        """The node has been told to ``reboot`` or ``shutdown`` in good order; it begins two seconds later."""
        self._api.post(f"/nodes/{node}/status", deadline=deadline, command=command)

    def migrate(self, sid: str, node: str, deadline: Deadline) -> None:
        """The HA manager has been asked to move the service; it only queues the request."""
        self._api.post(api_path("cluster", "ha", "resources", sid, "migrate"), deadline=deadline, node=node)

    def relocate(self, sid: str, node: str, deadline: Deadline) -> None:
        """The HA manager has been asked to stop the service and start it there; it only queues the request."""
        self._api.post(f"/cluster/ha/resources/{sid}/relocate", deadline=deadline, node=node)

    def request(self, sid: str, state: str, deadline: Deadline) -> None:
        """The HA manager has been asked to have the service ``started``, ``stopped`` or ``disabled``."""
        self._api.put(api_path("cluster", "ha", "resources", sid), deadline=deadline, state=state)

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


def _settings(rows: list[Said], key: str) -> dict[str, dict[str, str]]:
    """What each row configures, by its name."""
    where = rows[0].where if rows else ""
    return once(((row.word(key), row.texts(without=(key, *_NO_SETTING))) for row in rows), where)


def _errors(row: Said) -> str:
    """What HA has against a rule: by property, one text or several (seen on PVE 9.2)."""
    told = row.values["errors"]
    each = told.values() if isinstance(told, dict) else [told]
    return "; ".join(" ".join(map(str, text)) if isinstance(text, list) else str(text) for text in each)[:200]


def _guest(row: Said) -> GuestRow:
    sid = f"{'vm' if row.values['type'] == 'qemu' else 'ct'}:{row.count('vmid')}"
    return GuestRow(
        sid,
        row.word("name", ""),
        row.name("node"),
        row.word("status", "unknown"),
        row.word("hastate") if row.values.get("hastate") is not None else None,
        row.count("maxmem", 0),
        row.word("lock", ""),
        row.truth("template", False),
    )


def _named(row: Said) -> str:
    """The node of a row of corosync's configuration."""
    return row.name("node" if "node" in row.values else "name")


def _names(nodes: str) -> frozenset[str]:
    """The nodes of ``n1:2,n2``."""
    return frozenset(one.partition(":")[0] for one in nodes.split(",") if one)


def _set(value: str | None) -> bool:
    """Whether a yes-or-no of the configuration is set."""
    return value in ("1", "true")


def _guest_path(sid: str, node: str, *below: str) -> str:
    """The guest's path in the API; its node is the site's own word and gets no further than its segment."""
    which, _, number = sid.partition(":")
    return api_path("nodes", node, "qemu" if which == "vm" else "lxc", number, *below)


def _asked(reply: Reply) -> Asked:
    return Asked(reply.asked_at, reply.answered_at, reply.endpoint)
