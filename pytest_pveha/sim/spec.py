"""What a simulated site consists of: plain frozen data, built from the JSON the run hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar
from uuid import UUID

from pytest_pveha.sim.ceph_spec import CephSpec, PoolSpec
from pytest_pveha.sim.defects import check_known

GIB = 1 << 30


POLICIES = ("conditional", "freeze", "failover", "migrate")
"""What becomes of a node's services when it goes down in good order."""
SCHEDULERS = ("basic", "static")
AFFINITIES = ("node", "positive", "negative")
STATES = ("started", "stopped", "disabled", "ignored")
SERVED = ("nfs", "iscsi")
"""Kinds of storage that one machine serves to all nodes."""
STORAGE_KINDS = ("rbd", "cephfs", *SERVED, "zfs", "lvm", "dir")

_Spec = TypeVar(
    "_Spec",
    "BmcSpec",
    "NodeSpec",
    "GuestSpec",
    "RuleSpec",
    "GroupSpec",
    "StorageSpec",
    "BondSpec",
    "ReplicationSpec",
    "BackupSpec",
    "OperatorSpec",
    "SiteSpec",
    "CephSpec",
    "PoolSpec",
    "PathSpec",
)

BMC_DRIVERS = ("ipmi", "redfish")
BMC_VENDORS = ("generic", "idrac", "ilo", "supermicro")
BMC_PRIVILEGES = ("USER", "OPERATOR", "ADMINISTRATOR")
BMC_STATES = ("answering", "hung", "unreachable")
BMC_IDENTITIES = ("own", "wrong", "blank")
WATCHDOGS = {"softdog": "Software Watchdog", "iTCO_wdt": "iTCO_wdt", "ipmi_watchdog": "IPMI"}
"""Drivers of a watchdog, and what each calls itself (WDIOC_GETSUPPORT in the kernel's drivers of those names)."""


@dataclass(frozen=True, slots=True)
class BmcSpec:
    """How a node's management controller behaves."""

    driver: str = "ipmi"
    vendor: str = "generic"
    """Whose ways its Redfish service has."""
    power_seconds: float = 3.0
    """The longest from a power command to its effect; the command's answer comes before."""
    answer_seconds: float = 0.0
    """From a request until its answer."""
    privilege: str = "ADMINISTRATOR"
    """The highest level of the one user."""
    sessions: int = 4
    """Sessions at one time."""
    cipher_zero: bool = False
    """Whether IPMI lets anybody in without a password."""
    state: str = "answering"
    """hung: takes what is sent to it and never answers."""
    identity: str = "own"
    """Whose MAC address and UUID it shows."""
    owns_watchdog: bool = False
    """Whether the watchdog that resets the node is the BMC's own, and so stands in its log."""
    boot_options: bool = True
    """Whether it says what the next boot will do."""

    def __post_init__(self) -> None:
        for key, known in (
            ("driver", BMC_DRIVERS),
            ("vendor", BMC_VENDORS),
            ("privilege", BMC_PRIVILEGES),
            ("state", BMC_STATES),
            ("identity", BMC_IDENTITIES),
        ):
            if getattr(self, key) not in known:
                raise ValueError(f"BMC: {key} {getattr(self, key)!r}; known: {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A hypervisor. ``boot_seconds``: firmware and kernel, from power until the userland is up and SSH answers.

    ``missing_tools``: commands that are not installed there.
    """

    name: str
    nodeid: int
    room: str = ""
    feeds: tuple[str, ...] = ()
    """The power feeds it hangs on; one of them that carries power is enough."""
    boot_seconds: float = 210.0
    memory_bytes: int = 64 * GIB
    missing_tools: tuple[str, ...] = ()
    bmc: BmcSpec = BmcSpec()
    watchdog: str = "softdog"
    """The driver behind /dev/watchdog, unless the BMC's own watchdog is."""
    kernel_panic: int = 0
    """sysctl kernel.panic: seconds from a panic to a restart, 0 for never."""
    clock: float = 0.0
    """Seconds by which its clock is ahead."""

    def __post_init__(self) -> None:
        _known(f"node {self.name}: watchdog", self.watchdog, list(WATCHDOGS))

    @property
    def watchdog_driver(self) -> str:
        """The driver that is in use."""
        return "ipmi_watchdog" if self.bmc.owns_watchdog else self.watchdog

    @property
    def watchdog_identity(self) -> str:
        """What that driver calls itself."""
        return WATCHDOGS[self.watchdog_driver]

    @property
    def system_uuid(self) -> UUID:
        """What the board calls itself: the BMC's GUID, and the DMI product UUID its system reads."""
        return UUID(int=(0x4000_8000 << 64) + self.nodeid)

    @property
    def bmc_mac(self) -> str:
        """The network address of the BMC's own port."""
        return f"02:00:00:00:00:{self.nodeid:02x}"


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A VM or container. ``boot_seconds``: from its process's start until its application answers."""

    vmid: int
    name: str
    node: str
    kind: str = "vm"
    ha: bool = True
    boot_seconds: float = 20.0
    start_seconds: float = 0.0
    """From the request until its process runs; 0 as an empty VM (0.2 to 0.35 s)."""
    memory_bytes: int = 2 * GIB
    cpus: int = 1
    probes: int = 1
    onboot: bool = True
    """Whether its node's boot starts it; one under HA is HA's business."""
    state: str = "started"
    """What the HA manager is asked for: started, stopped, disabled or ignored."""
    max_restart: int | None = None
    max_relocate: int | None = None
    failback: bool | None = None
    """Since PVE 9; None as not configured, which means yes."""
    group: str = ""
    """The HA group it is in, on PVE 8."""
    acpi: bool = True
    """Whether it shuts down when asked; else it is stopped when the timeout is over."""
    shutdown_seconds: float = 3.0
    agent: bool = True
    storage: str = ""
    """The storage its disk lies on; empty for the site's shared one. On a local one it can start only where its disk
    lies, and moving takes the disk along."""
    disk_bytes: int = 8 * GIB
    """0: an empty one, without disk and network card."""
    start_failures: int = 0
    """So many of its first starts fail."""

    @property
    def sid(self) -> str:
        """The name under which the HA manager knows it, such as ``vm:101``."""
        return f"{self.kind}:{self.vmid}"


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """A rule of PVE 9. ``affinity``: ``node`` (with ``nodes``, ``strict``), ``positive`` or ``negative``."""

    name: str
    affinity: str
    guests: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    """Names, or name:priority."""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """An HA group of PVE 8."""

    name: str
    nodes: tuple[str, ...]
    """Names, or name:priority."""
    restricted: bool = False
    nofailback: bool = False


@dataclass(frozen=True, slots=True)
class StorageSpec:
    """A storage of the cluster, as ``/etc/pve/storage.cfg`` defines it."""

    name: str
    kind: str
    server: str = ""
    """The address of the machine that serves it (nfs, iscsi)."""
    soft: bool = False
    """nfs: whether the mount gives up after its retries, instead of trying for ever."""
    timeo: int = 600
    """nfs: tenths of a second until a request is sent again."""
    retrans: int = 2
    """nfs: how often, until it is a major timeout."""
    path_timeout: float = 120.0
    """iscsi: node.session.timeo.replacement_timeout, seconds until a lost path's requests fail."""

    def __post_init__(self) -> None:
        _known(f"storage {self.name}: kind", self.kind, STORAGE_KINDS)
        if self.kind in SERVED and not self.server:
            raise ValueError(f"storage {self.name}: {self.kind} needs the address of its server")

    @property
    def shared(self) -> bool:
        """Whether every node sees the same data."""
        return self.kind in ("rbd", "cephfs", *SERVED)


@dataclass(frozen=True, slots=True)
class ReplicationSpec:
    """A replication job: a guest's zfs disks go to another node by a schedule."""

    guest: str
    target: str
    minutes: int = 15
    """From one run to the next, counted from the full hour."""
    seconds: float = 4.0
    """How long a run takes."""
    disable: bool = False


@dataclass(frozen=True, slots=True)
class BackupSpec:
    """A Proxmox Backup Server beside the cluster, and how it keeps the guests' backups."""

    storage: str
    """What the cluster calls it."""
    datastore: str = "main"
    namespace: str = ""
    encrypted: bool = False
    age_hours: float = 6.0
    """Of the newest backup of each guest when the site begins; there are two older ones, a day apart."""
    speed_mib: float = 200.0
    """What a restore reads in a second, MiB."""
    space_bytes: int = 500 * GIB
    """How large each storage for disks is."""
    token_lacks: tuple[str, ...] = ()
    """Privileges that the token on the backup server has not."""
    guest: int = 0
    """The guest of this very cluster that the server is; 0 = a machine of its own."""
    extra_config: Mapping[str, str] = field(default_factory=dict)
    """What the backed-up configurations of VMs have besides, such as ``hostpci0``."""


@dataclass(frozen=True, slots=True)
class OperatorSpec:
    """The person at the rack: so long from the call to the deed, and from there to the answer."""

    reaction_seconds: float = 60.0
    answer_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class PathSpec:
    """The way from one room to another, in that direction."""

    source: str
    target: str
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    """Standard deviation of what comes on top of the delay."""
    loss_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class BondSpec:
    """A bond that every node has."""

    name: str
    members: tuple[str, ...]
    mode: str = "802.3ad"
    lacp_rate: str = "fast"
    carries: tuple[str, ...] = ()
    """Networks, such as guest or corosync1, that go over it."""


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A whole site. The same spec, seed included, plays the same history."""

    name: str
    cluster: str
    nodes: tuple[NodeSpec, ...]
    guests: tuple[GuestSpec, ...] = ()
    version: str = "9.1.9"
    seed: int = 1
    epoch_utc: int = 1767340800
    defects: tuple[str, ...] = ()
    token_coefficient: int = 125
    links: int = 1
    qdevice: str = ""
    """The quorum device's algorithm, ``ffsplit`` or ``lms``; empty for none."""
    qdevice_host: str = "10.99.9.9"
    """The address of the machine that runs qnetd."""
    qdevice_room: str = ""
    """Where that machine stands."""
    qdevice_switch: str = ""
    """The switch it hangs on."""
    paths: tuple[PathSpec, ...] = ()
    """The ways between rooms; within a room, and where none is named, a packet takes 0.08 ms."""
    switches: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each network (corosync0, guest, bmc, …) and the switches over which it goes; one of them that runs is enough."""
    bonds: tuple[BondSpec, ...] = ()
    """What of each node's cards is bonded."""
    two_node: bool = False
    """corosync's mode in which each of two nodes is quorate alone."""
    way_through: str = ""
    """The node by which the requesters come; empty where they come from outside."""
    ceph: CephSpec | None = None
    shutdown_policy: str = "conditional"
    crs: str = "basic"
    """How nodes are chosen: ``basic`` or ``static``."""
    rules: tuple[RuleSpec, ...] = ()
    groups: tuple[GroupSpec, ...] = ()
    storages: tuple[StorageSpec, ...] = ()
    """Besides those every site has: ``local``, ``local-lvm``, and a shared one where none is listed."""
    replication: tuple[ReplicationSpec, ...] = ()
    migration_mib: float = 1000.0
    """What the migration network carries, MiB a second."""
    token_lacks: tuple[str, ...] = ()
    """Privileges that the API token has not."""
    backup: BackupSpec | None = None
    """The backup server; None = there is none."""
    operator: OperatorSpec | None = None
    """Whoever pulls cords; None = nobody does."""

    def __post_init__(self) -> None:
        names = [node.name for node in self.nodes]
        _unique("node name", names)
        _unique("nodeid", [node.nodeid for node in self.nodes])
        _unique("vmid", [guest.vmid for guest in self.guests])
        if not names:
            raise ValueError("a site needs at least one node")
        for guest in self.guests:
            if guest.node not in names:
                raise ValueError(f"guest {guest.vmid}: node {guest.node!r} does not exist; known: {', '.join(names)}")
            if guest.kind not in ("vm", "ct"):
                raise ValueError(f"guest {guest.vmid}: kind {guest.kind!r} is neither 'vm' nor 'ct'")
        if not 1 <= self.links <= 8:
            raise ValueError(f"{self.links} corosync links; expected 1 to 8")
        if self.two_node and (len(names) != 2 or self.qdevice):
            raise ValueError("two_node is for two nodes without a quorum device")
        if self.way_through:
            _known("way_through", self.way_through, names)
        _known("shutdown_policy", self.shutdown_policy, POLICIES)
        _known("crs", self.crs, SCHEDULERS)
        _known("qdevice", self.qdevice, ("", "ffsplit", "lms"))
        self._check_replication(names)
        self._check_ceph(names)
        self._check_affinities({guest.sid for guest in self.guests if guest.ha}, set(names))
        check_known(self.defects)

    @property
    def every_storage(self) -> dict[str, StorageSpec]:
        """All storages by name: those that every site has, those listed, and a shared one if none is."""
        own = [StorageSpec("local", "dir"), StorageSpec("local-lvm", "lvm"), *self.storages]
        shared = [one for one in self.storages if one.shared]
        if self.ceph is not None and not any(one.kind == "rbd" for one in shared):
            own.append(StorageSpec("ceph-vm", "rbd"))
        elif not shared:
            own.append(StorageSpec("shared", "nfs", server="10.99.8.8"))
        return {one.name: one for one in own}

    @property
    def default_storage(self) -> str:
        """Where a guest's disk lies unless it says so: the site's last shared storage."""
        return [name for name, one in self.every_storage.items() if one.shared][-1]

    def _check_ceph(self, names: list[str]) -> None:
        ceph = self.ceph
        if ceph is None:
            return
        if ceph.osds_per_node < 1 or not set(names) - {ceph.tiebreaker}:
            raise ValueError("ceph: no OSD stands anywhere")
        if ceph.stretch:
            rooms = {node.room for node in self.nodes if node.name != ceph.tiebreaker}
            if len(rooms) != 2:
                raise ValueError(f"ceph: stretch mode needs two rooms beside the tiebreaker; there are {len(rooms)}")

    def _check_replication(self, nodes: list[str]) -> None:
        _unique("storage", [one.name for one in self.storages])
        guests = {guest.sid: guest for guest in self.guests}
        for job in self.replication:
            _known("replication: guest", job.guest, sorted(guests))
            _known(f"replication of {job.guest}: target", job.target, nodes)
            storage = guests[job.guest].storage or self.default_storage
            if storage not in self.every_storage or self.every_storage[storage].kind != "zfs":
                raise ValueError(f"replication of {job.guest}: storage {storage!r} is not of kind zfs")

    def _check_affinities(self, services: set[str], nodes: set[str]) -> None:
        _unique("rule", [rule.name for rule in self.rules])
        _unique("group", [group.name for group in self.groups])
        for rule in self.rules:
            _known(f"rule {rule.name}: affinity", rule.affinity, AFFINITIES)
            for sid in rule.guests:
                _known(f"rule {rule.name}: HA guest", sid, sorted(services))
            if (rule.affinity == "node") != bool(rule.nodes):
                raise ValueError(f"rule {rule.name}: only a node affinity has nodes, and it needs them")
        members_of = {rule.name: rule.nodes for rule in self.rules} | {group.name: group.nodes for group in self.groups}
        for name, members in members_of.items():
            for member in members:
                _known(f"{name}: node", member.partition(":")[0], sorted(nodes))
        for guest in self.guests:
            _known(f"guest {guest.vmid}: state", guest.state, STATES)
            if guest.storage:
                _known(f"guest {guest.vmid}: storage", guest.storage, list(self.every_storage))
            if guest.group:
                _known(f"guest {guest.vmid}: group", guest.group, [group.name for group in self.groups])

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SiteSpec:
        """The spec in that JSON object. Unknown or missing keys, and unknown defects, are a ValueError."""
        plain = dict(data)
        plain["nodes"] = tuple(
            _build(
                NodeSpec,
                {
                    **node,
                    "missing_tools": tuple(node.get("missing_tools", ())),
                    "feeds": tuple(node.get("feeds", ())),
                    "bmc": _build(BmcSpec, node.get("bmc", {})),
                },
            )
            for node in plain.get("nodes", ())
        )
        plain["guests"] = tuple(_build(GuestSpec, guest) for guest in plain.get("guests", ()))
        plain["rules"] = tuple(_build(RuleSpec, _tuples(rule, "guests", "nodes")) for rule in plain.get("rules", ()))
        plain["groups"] = tuple(_build(GroupSpec, _tuples(group, "nodes")) for group in plain.get("groups", ()))
        plain["paths"] = tuple(_build(PathSpec, path) for path in plain.get("paths", ()))
        plain["switches"] = tuple((network, tuple(switches)) for network, switches in plain.get("switches", ()))
        plain["bonds"] = tuple(_build(BondSpec, _tuples(one, "members", "carries")) for one in plain.get("bonds", ()))
        plain["storages"] = tuple(_build(StorageSpec, one) for one in plain.get("storages", ()))
        plain["replication"] = tuple(_build(ReplicationSpec, one) for one in plain.get("replication", ()))
        if plain.get("backup") is not None:
            plain["backup"] = _build(BackupSpec, _tuples(plain["backup"], "token_lacks"))
        if plain.get("ceph") is not None:
            ceph = {} if plain["ceph"] is True else dict(plain["ceph"])
            pools = tuple(_build(PoolSpec, pool) for pool in ceph.get("pools", ()))
            plain["ceph"] = _build(CephSpec, ceph | {"pools": pools})
        if plain.get("operator") is not None:
            plain["operator"] = _build(OperatorSpec, plain["operator"])
        for key in ("defects", "token_lacks"):
            plain[key] = tuple(plain.get(key, ()))
        return _build(cls, plain)


def _build(kind: type[_Spec], data: Mapping[str, Any]) -> _Spec:
    known = {each.name for each in fields(kind)}
    needed = {each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING}
    if unknown := sorted(set(data) - known):
        raise ValueError(f"{kind.__name__}: unknown key {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    if missing := sorted(needed - set(data)):
        raise ValueError(f"{kind.__name__}: {', '.join(missing)} missing")
    return kind(**data)


def _tuples(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {**data, **{key: tuple(data[key]) for key in keys if key in data}}


def _known(what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{what} {value!r} is unknown; known: {', '.join(known)}")


def _unique(what: str, values: list[Any]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{what} used twice: {', '.join(map(str, twice))}")
