"""What systemctl does to the daemons of a node, and what that means for the cluster.

The two HA daemons know themselves how they end, stand still and die; a node without corosync or cluster file system is
as if isolated. Sources: pve-ha-manager 5.2 (LRM.pm, CRM.pm, watchdog-mux.c), corosync(8), pmxcfs(8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_pveha.sim.world.ceph.units import kind_of
from pytest_pveha.sim.world.daemon import Daemon, Then

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph import Ceph
    from pytest_pveha.sim.world.model import Node
    from pytest_pveha.sim.world.world import World

Condition = Callable[[], bool]
_RESTARTED = {"pve-cluster": 1.0}
"""Units that systemd starts again when they were killed (Restart=on-failure), and how soon."""


def done() -> bool:
    """Nothing to wait for."""
    return True


class Daemons:
    """The daemons of one world's nodes, as their units start, stop and kill them."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, node: Node, name: str) -> bool:
        """Whether the daemon runs now."""
        if node.units[name].active:
            return True
        power = self._world.power
        if (ceph := self._ceph(name)) is not None:
            return ceph.units.start(node, name)
        if name == "watchdog-mux":
            if not node.watchdog.start():
                node.units[name].failed = True
                return False
            power.up(node, name)
        elif name in power.starters:
            power.starters[name](node)
        else:
            power.up(node, name)
        if name == "pveproxy":
            node.api_up = True
        if name == "pve-ha-lrm":
            self._world.mishaps.lrm_starts(node)
        return True

    def stop(self, node: Node, name: str, then: Then = lambda: None) -> Condition:
        """The daemon has been told to end; it has when the condition holds, and then ``then`` is called."""
        unit = node.units[name]
        if not unit.active:
            unit.failed = False
            then()
            return done
        self._resume(node, name)  # systemd wakes what it stops
        if (ha := _ha(node, name)) is not None:
            return self._stop_ha(node, ha, then)
        if (ceph := self._ceph(name)) is not None:
            return self._stop_ceph(ceph, node, name, then)
        if name == "corosync":
            self._world.corosync.stop(node)
            self._without_cluster(node)
        elif name == "pve-cluster":
            self._unmount(node)
        elif name == "watchdog-mux":
            node.watchdog.stop()
        elif name == "pveproxy":
            node.api_up = False
        self._down(node, name, failed=False)
        then()
        return done

    def _ceph(self, name: str) -> Ceph | None:
        """The Ceph whose daemon that unit runs, None for the others."""
        return self._world.ceph if kind_of(name) else None

    def _stop_ceph(self, ceph: Ceph, node: Node, name: str, then: Then) -> Condition:
        unit = node.units[name]

        def ended() -> None:
            if unit is node.units[name] and unit.active:
                self._down(node, name, failed=False)
            then()

        ceph.units.stop(node, name, ended)
        return lambda: not unit.active

    def _stop_ha(self, node: Node, daemon: Daemon, then: Then) -> Condition:
        """An HA daemon takes its time: the LRM until its services are frozen or stopped, a master until its round."""
        if daemon.ident == "pve-ha-lrm":
            self._world.mishaps.lrm_stops(node)
        unit = node.units[daemon.ident]

        def ended() -> None:
            if unit.active:
                self._down(node, unit.name, failed=False)
            then()

        daemon.stop(ended)
        return lambda: not unit.active

    def signal(self, node: Node, name: str, signal: str) -> None:
        """The daemon's main process has been sent KILL, STOP, CONT or another signal, and did what that makes it do."""
        unit = node.units[name]
        if not unit.active:
            return
        if signal == "STOP":
            self._halt(node, name)
        elif signal == "CONT":
            self._resume(node, name)
        elif signal == "KILL":
            self._kill(node, name)
        elif signal in ("TERM", "INT"):
            self.stop(node, name)

    # signals

    def _halt(self, node: Node, name: str) -> None:
        if name in node.halted:
            return
        node.halted.add(name)
        if (ha := _ha(node, name)) is not None:
            ha.pause()
        elif name == "watchdog-mux":
            node.watchdog.halt()
        elif name == "corosync":
            node.syncing = True  # whoever writes waits for it
            self._world.corosync.disturbed()
        elif (ceph := self._ceph(name)) is not None:
            ceph.disturbed()

    def _resume(self, node: Node, name: str) -> None:
        if name not in node.halted:
            return
        node.halted.discard(name)
        if (ha := _ha(node, name)) is not None:
            ha.resume()
        elif name == "watchdog-mux":
            node.watchdog.resume()
        elif name == "corosync":
            self._world.log(node, "corosync", "  [TOTEM ] Process pause detected, flushing membership messages.")
            self._world.corosync.woken(node)
        elif (ceph := self._ceph(name)) is not None:
            ceph.disturbed()

    def _kill(self, node: Node, name: str) -> None:
        node.halted.discard(name)
        self._down(node, name, failed=True)
        if (ha := _ha(node, name)) is not None:
            ha.kill()
        elif name == "watchdog-mux":
            node.watchdog.die()
            if self._world.planted("mux-restarts-itself"):
                self._world.on(node, 1.0, lambda: self._revive_mux(node), f"{node.name}: systemd restarts {name}")
        elif name == "corosync":
            self._world.corosync.forget(node)
            self._without_cluster(node)
            self._world.corosync.disturbed()
        elif name == "pve-cluster":
            self._unmount(node)
        elif name == "pveproxy":
            node.api_up = False
        elif (ceph := self._ceph(name)) is not None:
            ceph.units.killed(node, name)
        if name in _RESTARTED:
            again = f"{node.name}: systemd restarts {name}"
            self._world.on(node, _RESTARTED[name], lambda: self._restart(node, name), again)

    def _restart(self, node: Node, name: str) -> None:
        if node.units[name].failed:
            self.start(node, name)

    def _revive_mux(self, node: Node) -> None:
        self._world.power.up(node, "watchdog-mux")
        node.watchdog.revive()

    # the cluster file system

    def _without_cluster(self, node: Node) -> None:
        """Without corosync the cluster file system goes on as it was last seen, for reading."""
        if node.cfs_joined:
            node.cfs_joined = False
            node.frozen = node.frozen or self._world.pmxcfs.snapshot()
            self._world.log(node, "pmxcfs", "[status] notice: node lost quorum")

    def _unmount(self, node: Node) -> None:
        if node.cfs_joined:
            node.frozen = node.frozen or self._world.pmxcfs.snapshot()
        node.cfs_joined = False
        node.cfs_started = None

    def _down(self, node: Node, name: str, *, failed: bool) -> None:
        unit = node.units[name]
        unit.active, unit.pid, unit.since, unit.failed = False, 0, self._world.timeline.now, failed
        self._world.truth("unit", {"node": node.name, "unit": name, "state": "failed" if failed else "inactive"})


def _ha(node: Node, name: str) -> Daemon | None:
    """The HA daemon that unit runs, None for the others."""
    return {"pve-ha-lrm": node.lrm, "pve-ha-crm": node.crm}.get(name)
