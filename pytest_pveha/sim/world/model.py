"""The world's nouns: what a node, a guest, a task and a line of the journal are. Data only; others make it move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_pveha.sim.spec import GuestSpec, NodeSpec

if TYPE_CHECKING:
    from pytest_pveha.sim.world.crm import Crm
    from pytest_pveha.sim.world.lrm import Lrm
    from pytest_pveha.sim.world.pmxcfs import Store
    from pytest_pveha.sim.world.watchdog import Watchdog

Facts = dict[str, Any]
"""JSON as the API shows it."""


class Refused(Exception):
    """The cluster refuses the act; the message is PVE's own, such as ``cluster not ready - no quorum?``."""


@dataclass(slots=True)
class UnitState:
    """A daemon's unit on a node: whether it is active, its main pid (0 when it is not), and since when (ns)."""

    name: str
    active: bool = False
    pid: int = 0
    since: int = 0
    failed: bool = False
    """Whether its main process ended otherwise than by a stop."""


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One line of a node's journal. ``unit`` is the systemd unit, ``ident`` what journalctl prints before the pid."""

    t_ns: int
    unit: str
    pid: int
    text: str
    ident: str
    boot_id: str


@dataclass(slots=True)
class Task:
    """A PVE task. Times: epoch seconds of its node's clock; ``endtime`` and ``exitstatus`` are None while it runs."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    endtime: int | None = None
    exitstatus: str | None = None
    log: list[str] = field(default_factory=list)


@dataclass(slots=True)
class GuestProcess:
    """A guest's process on one node: QEMU of a VM, or the init of a container."""

    pid: int
    started_at: int
    answering: bool = False
    agent_up: bool = False
    link_up: bool = True
    """Its network card's end on the node."""
    recovered: bool = False
    """Whether HA started it after its node had been fenced."""
    booted_at: int = -1
    """When the guest itself began (ns): it goes on when it moves."""

    def __post_init__(self) -> None:
        if self.booted_at < 0:
            self.booted_at = self.started_at

    failed: int = 0
    """Requests to its disk that failed."""


@dataclass(slots=True)
class Guest:
    """A guest. ``config_node`` is where its configuration lies in the cluster file system."""

    vmid: int
    name: str
    kind: str
    spec: GuestSpec
    config_node: str
    processes: dict[str, GuestProcess] = field(default_factory=dict)
    wanted: bool = True
    """Whether it was last meant to run: a guest without HA starts again at boot only then."""
    recovered: bool = False
    """Whether its next start is one after a recovery."""
    disk_node: str = ""
    """Where its disk lies, if that is a local one."""
    start_failures: int = 0
    """So many of its next starts fail."""
    config: dict[str, str] | None = None
    """Its configuration since somebody wrote it; None: as its spec has it."""
    content: str = ""
    """Whose disk's content it has: another guest's sid where it was restored from that one's backup."""
    taken_for_running: bool = False
    """Whether its node's LRM does not see that it is dead; only a planted defect makes it so."""

    @property
    def sid(self) -> str:
        """Its name in the HA manager."""
        return self.spec.sid

    @property
    def answering(self) -> bool:
        """Whether its application answers on its ports, wherever it runs."""
        return any(process.answering for process in self.processes.values())

    @property
    def agent_up(self) -> bool:
        """Whether its guest agent answers."""
        return any(process.agent_up for process in self.processes.values())


@dataclass(frozen=True, slots=True)
class Report:
    """What a node's pvestatd last told the cluster about one guest."""

    node: str
    running: bool
    at: int
    started_at: int | None


@dataclass(slots=True)
class Node:
    """A hypervisor: its chassis, its operating system, and its place in the cluster."""

    name: str
    nodeid: int
    spec: NodeSpec
    clock_offset: float
    watchdog: Watchdog
    chassis_on: bool = True
    mains: bool = True
    """Whether its outlets have power: without, its BMC is dead too."""
    bmc_up: bool = True
    boot_flags: bytes = bytes(5)
    """What its BMC will make the next boot do (IPMI 2.0, table 28-14, parameter 5)."""
    running: bool = False
    api_up: bool = False
    reporting: bool = False
    """Whether its pvestatd has sent its first numbers since boot; until then ``/nodes`` says ``unknown``."""
    boot_id: str = ""
    booted_at: int | None = None
    life: int = 0
    """Counts deaths: what an earlier life had planned does not happen."""
    units: dict[str, UnitState] = field(default_factory=dict)
    journal: list[JournalLine] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    next_pid: int = 1000
    corosync_up: bool = False
    link_up: bool = True
    """The corosync network's cable."""
    halted: set[str] = field(default_factory=set)
    """Units whose processes were sent SIGSTOP, and not yet SIGCONT."""
    bridge_up: bool = True
    """The guests' bridge and its uplink: without it they run, and nobody reaches them."""
    members: frozenset[int] = frozenset()
    ring_id: str = ""
    syncing: bool = False
    stalled: list[Callable[[], None]] = field(default_factory=list)
    """What waits for the new membership: nothing is written to the cluster file system until then."""
    cfs_started: int | None = None
    cfs_joined: bool = False
    frozen: Store | None = None
    """The cluster file system as this node last saw it with quorum; None while it has quorum."""
    crm: Crm | None = None
    lrm: Lrm | None = None

    def stopped(self, unit: str) -> bool:
        """Whether that unit's processes stand still, though they are there."""
        return unit in self.halted

    @property
    def api_hung(self) -> bool:
        """Whether its pveproxy takes connections and answers nothing."""
        return self.stopped("pveproxy")

    @property
    def crm_state(self) -> str:
        """The CRM's state, empty while the daemon does not run."""
        return self.crm.state if self.crm else ""

    @property
    def lrm_state(self) -> str:
        """The LRM's state, empty while the daemon does not run."""
        return self.lrm.state if self.lrm else ""

    @property
    def lrm_mode(self) -> str:
        """The LRM's mode, empty while the daemon does not run."""
        return self.lrm.mode if self.lrm else ""

    @property
    def lrm_timestamp(self) -> int:
        """When the LRM last wrote its status, epoch seconds of its node; 0 if it has not."""
        return self.lrm.timestamp if self.lrm else 0

    @property
    def watchdog_active(self) -> bool:
        """Whether the LRM holds the watchdog open: only such a node resets itself without quorum."""
        return self.watchdog.active


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What corosync and pmxcfs on one node say right now. All of it is a copy."""

    node: str
    quorate: bool
    members: frozenset[int]
    """Node ids shown as online."""
    ring_id: str
    syncing: bool
    """Between a fault and the new membership: writes stall, reads may hang."""
    manager_status: Facts
    """``data`` of ``/cluster/ha/status/manager_status``: manager_status, lrm_status, quorum."""
    resources: tuple[Facts, ...]
    """HA resources as configured: sid, state, type, and what else was set."""
    rules: dict[str, Facts]
    groups: dict[str, Facts]
    options: Facts
    """The datacenter's, as far as they were set."""
    config_nodes: dict[int, str]
    """Where each guest's configuration lies."""
    reports: dict[int, Report]
    """What pvestatd last told about each guest; old numbers stay after a node's death."""
    node_status: dict[str, str]
    """``online``, ``offline`` or ``unknown`` as ``/nodes`` shows it."""
    tasks: tuple[Task, ...]
    """Recent tasks of all nodes, newest first."""
    expected_votes: int
    quorum: int
    device_votes: int = 0
    """The quorum device's, as this node counts them."""
