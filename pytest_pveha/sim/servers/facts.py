"""What a node says about itself and its cluster, read from the world once for the API and the shell alike.

Wording and shapes follow replies of a PVE 9.1.9 control plane; HA status text: pve-ha-manager's status API.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.servers.ha_current import Current
from pytest_pveha.sim.world.ceph.units import description as ceph_description
from pytest_pveha.sim.world.ceph.units import kind_of
from pytest_pveha.sim.world.model import ClusterView, Guest, JournalLine, Node
from pytest_pveha.sim.world.world import World

REPOSITORY_ID = "ee7bad0a"
KERNEL = "6.17.2-1-pve"
KERNEL_BUILD = "#1 SMP PREEMPT_DYNAMIC PMX 6.17.2-1 (2025-10-21T11:55Z)"
DESCRIPTIONS = {
    "chrony": "chrony, an NTP client/server",
    "corosync": "Corosync Cluster Engine",
    "cron": "Regular background program processing daemon",
    "ksmtuned": "Kernel Samepage Merging (KSM) Tuning Daemon",
    "lxcfs": "FUSE filesystem for LXC",
    "postfix": "Postfix Mail Transport Agent",
    "proxmox-firewall": "Proxmox nftables firewall",
    "pve-cluster": "The Proxmox VE cluster filesystem",
    "pve-firewall": "Proxmox VE firewall",
    "pve-ha-crm": "PVE Cluster HA Resource Manager Daemon",
    "pve-ha-lrm": "PVE Local HA Resource Manager Daemon",
    "pve-lxc-syscalld": "Proxmox VE LXC Syscall Daemon",
    "pvedaemon": "PVE API Daemon",
    "pvefw-logger": "Proxmox VE firewall logger",
    "pveproxy": "PVE API Proxy Server",
    "pvescheduler": "Proxmox VE scheduler",
    "pvestatd": "PVE Status Daemon",
    "qmeventd": "PVE Qemu Event Daemon",
    "spiceproxy": "PVE SPICE Proxy Server",
    "sshd": "OpenBSD Secure Shell server",
    "syslog": "syslog.service",
    "systemd-journald": "Journal Service",
    "systemd-timesyncd": "systemd-timesyncd.service",
}
"""The units GET /nodes/{n}/services knows, in its order; the watchdog multiplexer is not among them."""

_ABSENT = frozenset({"syslog", "systemd-timesyncd"})
_STATIC = frozenset({"systemd-journald"})


def date_text(epoch: float) -> str:
    """An epoch as PVE's tools write it, in the nodes' local time, which is UTC."""
    moment = datetime.fromtimestamp(int(epoch), UTC)
    return f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S %Y}"


def clock_text(epoch: float) -> str:
    """An epoch as syslog writes it."""
    moment = datetime.fromtimestamp(int(epoch), UTC)
    return f"{moment:%b %d %H:%M:%S}"


def digest(*parts: object) -> str:
    """A configuration's digest: the same for the same parts."""
    return hashlib.sha1("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit as ``systemctl`` shows it. ``since`` is epoch seconds, 0 if it never ran."""

    name: str
    description: str
    active: str = "inactive"
    sub: str = "dead"
    enabled: str = "enabled"
    pid: int = 0
    since: float = 0.0

    @property
    def loaded(self) -> bool:
        """Whether there is such a unit at all."""
        return self.enabled != "not-found"


class Facts:
    """The world as ``node`` sees it at this moment; to be used within one ``acting``."""

    def __init__(self, world: World, node: Node) -> None:
        self.world = world
        self.node = node

    @cached_property
    def view(self) -> ClusterView:
        """What corosync and pmxcfs say on this node."""
        return self.world.cluster_view(self.node)

    @property
    def now(self) -> float:
        """This node's clock, epoch seconds."""
        return self.world.utc(self.node)

    # --- the node ------------------------------------------------------------------------------------------------

    @property
    def release(self) -> str:
        """PVE's major and minor version."""
        return ".".join(self.world.spec.version.split(".")[:2])

    @property
    def pveversion(self) -> str:
        """The manager package's name, version and repository id."""
        return f"pve-manager/{self.world.spec.version}/{REPOSITORY_ID}"

    def uptime(self, node: Node | None = None) -> float:
        """Seconds since the kernel started."""
        booted = (node or self.node).booted_at
        return 0.0 if booted is None else max(0.0, (self.world.timeline.now - booted) / SECOND)

    def address(self, node: Node, link: int = 0) -> str:
        """The node's address on that link of the cluster network."""
        return self.world.network.address(node, link)

    def unit(self, name: str) -> Unit:
        """A unit's state. Those the world does not play run as long as the node does."""
        name = name.removesuffix(".service")
        description = ceph_description(name) if kind_of(name) else DESCRIPTIONS.get(name, f"{name}.service")
        state = self.node.units.get(name)
        if name in _ABSENT or (state is None and name not in DESCRIPTIONS):
            return Unit(name, description, enabled="not-found")
        enabled = "static" if name in _STATIC else self._enabled(name)
        if state is None:
            boot = self.now - self.uptime()
            return Unit(name, description, "active", "running", enabled, self._daemon_pid(name), boot)
        since = self.now - (self.world.timeline.now - state.since) / SECOND
        if not state.active:
            word, sub = ("failed", "failed") if state.failed else ("inactive", "dead")
            return Unit(name, description, word, sub, enabled, since=since)
        return Unit(name, description, "active", "running", enabled, state.pid, since)

    def _enabled(self, name: str) -> str:
        if self.world.systemd.masked(self.node, name):
            return "masked"
        return "enabled" if self.world.systemd.starts_at_boot(self.node, name) else "disabled"

    @staticmethod
    def _daemon_pid(name: str) -> int:
        return 600 + sorted(DESCRIPTIONS).index(name)

    # --- the cluster ---------------------------------------------------------------------------------------------

    @property
    def members(self) -> list[Node]:
        """The nodes of the present membership, by node id."""
        present = (node for node in self.world.nodes.values() if node.nodeid in self.view.members)
        return sorted(present, key=lambda node: node.nodeid)

    @property
    def qdevice(self) -> dict[str, str]:
        """What the daemon of the quorum device tells; nothing where there is none."""
        device = self.world.corosync.device
        if not device.algorithm or not self.node.corosync_up:
            return {}
        return {
            "Algorithm": "Fifty-Fifty split" if device.algorithm == "ffsplit" else "LMS",
            "Last poll call": f"{date_text(self.now)} (cast vote)",
            "Model": "Net",
            "QNetd host": f"{self.world.spec.qdevice_host}:5403",
            "State": device.state(self.node),
            "Tie-breaker": "Node with lowest node ID",
        }

    def node_shown(self, node: Node) -> str:
        """online, offline, or unknown until the node has broadcast its first status after a boot."""
        return self.view.node_status[node.name]

    # --- HA ------------------------------------------------------------------------------------------------------

    @property
    def ha_status(self) -> dict[str, Any]:
        """GET /cluster/ha/status/manager_status: what the master and each LRM last wrote."""
        return self.view.manager_status

    @property
    def ha_resources(self) -> list[dict[str, Any]]:
        """GET /cluster/ha/resources: defaults are not filled in."""
        resources = self.view.resources
        whole = digest("resources.cfg", [sorted(resource.items()) for resource in resources])
        return [{"digest": whole, **resource} for resource in resources]

    def service_shown(self, sid: str) -> str | None:
        """The merged state of one HA service, or None if it is not managed."""
        return next((entry["state"] for entry in self.ha_current if entry.get("sid") == sid), None)

    @cached_property
    def ha_current(self) -> list[dict[str, Any]]:
        """GET /cluster/ha/status/current."""
        return Current(self.view, self.world.spec.version, self.now, date_text).entries()

    # --- guests --------------------------------------------------------------------------------------------------

    def guest_shown(self, guest: Guest) -> tuple[bool, float]:
        """Whether /cluster/resources calls a guest running, and its uptime: as its node last broadcast.

        Of a dead node the last word stands; a new node calls it stopped until it has reported.
        """
        report = self.view.reports.get(guest.vmid)
        if report is None or not report.running or report.node != self.view.config_nodes.get(guest.vmid):
            return False, 0.0
        return True, (report.at - (report.started_at or report.at)) / SECOND

    def process_uptime(self, guest: Guest) -> float | None:
        """Seconds the guest's process has run on this node; None without one."""
        process = guest.processes.get(self.node.name)
        return None if process is None else (self.world.timeline.now - process.started_at) / SECOND

    # --- logs ----------------------------------------------------------------------------------------------------

    def epoch(self, line: JournalLine) -> float:
        """A journal line's time by this node's clock, epoch seconds."""
        return self.now - (self.world.timeline.now - line.t_ns) / SECOND
