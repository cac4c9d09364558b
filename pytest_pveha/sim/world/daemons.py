"""What systemctl does to the daemons of a node, and what that means for the cluster.

A clean stop of the LRM closes the watchdog, a killed one does not; a node without corosync or cluster file system is as
if isolated. Sources: pve-ha-manager 5.2 (LRM.pm, CRM.pm, watchdog-mux.c), corosync(8), pmxcfs(8).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pveha.sim.world.crm import Crm
    from pytest_pveha.sim.world.lrm import Lrm
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
        return True

    def stop(self, node: Node, name: str) -> Condition:
        """The daemon has been told to end; it has when the condition holds."""
        unit = node.units[name]
        if not unit.active:
            unit.failed = False
            return done
        if name in node.halted:
            self.signal(node, name, "CONT")  # systemd wakes what it stops
        if (daemon := self._ha(node, name)) is not None:
            daemon.stop(lambda: self._down(node, name, failed=False))
            return lambda: not unit.active
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
        return done

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
        if (daemon := self._ha(node, name)) is not None:
            daemon.pause()
            if name == "pve-ha-crm" and daemon.state == "master":
                node.watchdog.neglect(daemon.pid, lambda: name in node.halted)
        elif name == "watchdog-mux":
            node.watchdog.halt()
        elif name == "corosync":
            node.syncing = True  # whoever writes waits for it
            self._world.corosync.disturbed()
        elif name == "pveproxy":
            node.api_up = False

    def _resume(self, node: Node, name: str) -> None:
        if name not in node.halted:
            return
        node.halted.discard(name)
        if (daemon := self._ha(node, name)) is not None:
            daemon.resume()
        elif name == "watchdog-mux":
            node.watchdog.resume()
        elif name == "corosync":
            self._world.log(node, "corosync", "  [TOTEM ] Process pause detected, flushing membership messages.")
            self._world.corosync.woken(node)
        elif name == "pveproxy":
            node.api_up = True

    def _kill(self, node: Node, name: str) -> None:
        node.halted.discard(name)
        if (daemon := self._ha(node, name)) is not None:
            watched = node.watchdog.active if name == "pve-ha-lrm" else daemon.state == "master"
            daemon.kill()
            if watched:
                node.watchdog.broken(daemon.pid)
        elif name == "watchdog-mux":
            node.watchdog.die()
        elif name == "corosync":
            self._world.corosync.forget(node)
            self._without_cluster(node)
            self._world.corosync.disturbed()
        elif name == "pve-cluster":
            self._unmount(node)
        elif name == "pveproxy":
            node.api_up = False
        self._down(node, name, failed=True)
        if name in _RESTARTED:
            again = f"{node.name}: systemd restarts {name}"
            self._world.on(node, _RESTARTED[name], lambda: self._restart(node, name), again)

    def _restart(self, node: Node, name: str) -> None:
        if node.units[name].failed:
            self.start(node, name)

    @staticmethod
    def _ha(node: Node, name: str) -> Lrm | Crm | None:
        return node.lrm if name == "pve-ha-lrm" else node.crm if name == "pve-ha-crm" else None

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
