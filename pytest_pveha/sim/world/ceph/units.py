"""Ceph's units on the nodes: ceph-mon@NAME, ceph-mgr@NAME, ceph-osd@N, and the targets above them.

systemd starts a daemon that was killed again (Restart=on-failure) after 10 s. Started more than three times (a mon
five) within half an hour it stays failed until ``systemctl reset-failed``. Source: Ceph's unit files as Debian's
16.2.15 ships them (RestartSec=10, StartLimitBurst, StartLimitInterval=30min); systemd.unit(5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Node, UnitState

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph
    from pytest_pveha.sim.world.ceph.model import Osd

TARGETS = ("ceph.target", "ceph-mon.target", "ceph-mgr.target", "ceph-osd.target")
DESCRIPTIONS = {
    "ceph-mon": "Ceph cluster monitor daemon",
    "ceph-mgr": "Ceph cluster manager daemon",
    "ceph-osd": "Ceph object storage daemon",
}
_BURST = {"ceph-mon": 5, "ceph-mgr": 3, "ceph-osd": 3}
_AGAIN = 10.0
_INTERVAL = 1800 * SECOND
_STARTS = {"ceph-mon": (1.0, 2.0), "ceph-mgr": (2.0, 5.0), "ceph-osd": (2.0, 6.0)}
"""From a daemon's start until it takes part: an OSD reads its store first."""
_BOOTS = {"ceph-mon": (3.0, 5.0), "ceph-mgr": (4.0, 6.0), "ceph-osd": (8.0, 14.0)}
"""From the userland's start until the units are started: OSDs are activated first (ceph-volume)."""
_STOPS = (0.3, 0.9)
"""An OSD that is stopped tells the mons and waits for their answer."""
_FLAP, _FLAPS = 20.0, 5
_UNHEARD = 5.0
"""osd_mon_shutdown_timeout: how long it waits at most."""


def kind_of(name: str) -> str:
    """ceph-osd for ceph-osd@3, empty for what is not Ceph's."""
    kind = name.partition("@")[0]
    return kind if kind in DESCRIPTIONS and "@" in name else ""


def description(name: str) -> str:
    """What systemctl calls it."""
    return f"{DESCRIPTIONS[kind_of(name)]} {name}" if kind_of(name) else f"{name}"


class Units:
    """The units of one cluster's daemons."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self._world = ceph.world
        self._starts: dict[tuple[str, str], list[int]] = {}
        self.limited: set[tuple[str, str]] = set()
        """Units that were started too often."""
        self.restarts: dict[tuple[str, str], int] = {}
        self._flaps: dict[str, int] = {}

    def names(self, host: str) -> list[str]:
        """The units of the daemons that stand on that node."""
        ceph = self._ceph
        mons = [mon.unit for mon in ceph.mons.all.values() if mon.node == host]
        managers = [f"ceph-mgr@{host}"] if host in ceph.managers.hosts else []
        return [*mons, *managers, *(f"ceph-osd@{osd}" for osd in ceph.crush.hosts().get(host, ()))]

    def begin(self, node: Node) -> None:
        """They have been running for days."""
        for name in self.names(node.name):
            node.units[name] = UnitState(name, True, self._world.new_pid(node), (node.booted_at or 0) + 12 * SECOND)

    def boot(self, node: Node) -> None:
        """The node has booted: what is enabled starts, one kind after the other."""
        self._ceph.network.boot(node.name)
        self._starts = {key: times for key, times in self._starts.items() if key[0] != node.name}
        self.limited = {key for key in self.limited if key[0] != node.name}
        for kind, bounds in _BOOTS.items():
            seconds = self._ceph.rng.uniform(*bounds)
            for name in self.names(node.name):
                if kind_of(name) == kind and self._world.systemd.starts_at_boot(node, name):
                    self._world.on(node, seconds, self._starter(node, name), f"{node.name}: {name} starts")

    def _starter(self, node: Node, name: str) -> Callable[[], None]:
        def start() -> None:
            if not node.units[name].active:
                self.start(node, name)

        return start

    def start(self, node: Node, name: str) -> bool:
        """Whether the daemon runs now; one that was started too often does not."""
        key, now = (node.name, name), self._world.timeline.now
        recent = [at for at in self._starts.get(key, ()) if now - at < _INTERVAL]
        if key in self.limited or len(recent) >= _BURST[kind_of(name)]:
            self.limited.add(key)
            node.units[name].failed = True
            self._world.log(node, "systemd", f"{name}.service: Start request repeated too quickly.", 1)
            self._world.log(node, "systemd", f"{name}.service: Failed with result 'start-limit-hit'.", 1)
            return False
        self._starts[key] = [*recent, now]
        self._world.power.up(node, name)
        self._world.log(node, "systemd", f"Started {name}.service - {description(name)}.", 1)
        if not self._ceph.can_run(name):
            self._world.on(node, 1.0, lambda: self._dies(node, name), f"{node.name}: {name} dies")
            return True
        if kind_of(name) == "ceph-osd":
            osd = self._ceph.osds[int(name.partition("@")[2])]
            osd.starting, osd.rejoins = True, False
            self._ceph.osd_map.returns(osd, self._ceph.rng.uniform(*_STARTS["ceph-osd"]))
            self._flap(node, osd)
        self._ceph.disturbed()
        return True

    def _flap(self, node: Node, osd: Osd) -> None:
        """Where it is planted, the OSD dies again, some times."""
        times = self._flaps.get(osd.unit, 0)
        if self._world.planted("osd-flaps") and times < _FLAPS:
            self._flaps[osd.unit] = times + 1
            self._world.on(node, _FLAP, lambda: self.crash(osd.number), f"{osd.name} crashes again")

    def stop(self, node: Node, name: str, ended: Callable[[], None]) -> None:
        """The daemon has been told to end; ``ended`` is called when it has."""
        self._world.log(node, "systemd", f"Stopping {name}.service - {description(name)}...", 1)
        if kind_of(name) != "ceph-osd":
            ended()
            self._ceph.disturbed()
            return
        osd = self._ceph.osds[int(name.partition("@")[2])]
        told = osd.up and self._ceph.mons.reached_from(node.name)
        seconds = self._ceph.rng.uniform(*_STOPS) if told else _UNHEARD if osd.up else 0.0

        def gone() -> None:
            if told and "nodown" not in self._ceph.flags:
                self._ceph.osd_map.down([osd])
                osd.rejoins = False
            ended()
            self._ceph.disturbed()

        if seconds:
            self._world.on(node, seconds, gone, f"{node.name}: {name} ends")
        else:
            gone()

    def killed(self, node: Node, name: str) -> None:
        """The daemon's process is gone without a word: systemd starts it again, unless it is masked by then."""
        self._world.log(node, "systemd", f"{name}.service: Main process exited, code=killed, status=9/KILL", 1)
        self._world.log(node, "systemd", f"{name}.service: Failed with result 'signal'.", 1)
        self._ceph.disturbed()
        self._again(node, name)

    def _dies(self, node: Node, name: str) -> None:
        """A daemon that cannot run ends by itself."""
        unit = node.units[name]
        if unit.active and not self._ceph.can_run(name):
            unit.active, unit.pid, unit.failed, unit.since = False, 0, True, self._world.timeline.now
            self._world.log(node, "systemd", f"{name}.service: Main process exited, code=exited, status=1/FAILURE", 1)
            self._ceph.disturbed()
            self._again(node, name)

    def _again(self, node: Node, name: str) -> None:
        def restart() -> None:
            if node.units[name].failed and not self._world.systemd.masked(node, name):
                self.restarts[node.name, name] = self.restarts.get((node.name, name), 0) + 1
                self.start(node, name)

        self._world.on(node, _AGAIN, restart, f"{node.name}: systemd restarts {name}")

    def reset_failed(self, node: Node, name: str) -> None:
        """How often it was started is forgotten."""
        self.limited.discard((node.name, name))
        self._starts.pop((node.name, name), None)

    def crash(self, osd: int) -> None:
        """The OSD's daemon has crashed, and cannot run for now."""
        node = self._world.nodes[self._ceph.osds[osd].host]
        name = f"ceph-osd@{osd}"
        if node.running and node.units[name].active:
            self._world.systemd.daemons.signal(node, name, "KILL")

    def revive(self, osd: int) -> None:
        """Somebody has started it again by hand."""
        node = self._world.nodes[self._ceph.osds[osd].host]
        name = f"ceph-osd@{osd}"
        self.reset_failed(node, name)
        if node.running and not node.units[name].active:
            node.units[name].failed = False
            self.start(node, name)
