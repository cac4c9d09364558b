"""A node goes down in good order: its guests first, then LRM, CRM and corosync, then the power, or the next boot.

As slow as the policy makes it: the LRM may stay until the node is empty, and nothing hurries it (TimeoutStopSec is
infinity). Steps as measured on a PVE 9.1.9 control plane: LRM asked after 4.6 s, CRM 1.9 s after the LRM has ended,
corosync 3 s later, the machine gone 2 s after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.sim.world.model import Guest, Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

_PATIENCE = {"vm": 180.0, "ct": 60.0}
"""How long guests without HA may take (pve-guests)."""

_HANGS = 720.0
_CUT_SHORT = 2.0


@dataclass(frozen=True, slots=True)
class Shutdown:
    """A node that is going down, in one of its lives."""

    life: int
    reboot: bool


class Shutdowns:
    """The nodes of one world that are going down."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("shutdown")
        self._under_way: dict[str, Shutdown] = {}

    def of(self, node: Node) -> Shutdown | None:
        """The node's present way down, if it is on one."""
        found = self._under_way.get(node.name)
        return found if found is not None and found.life == node.life else None

    def begin(self, node: Node, reboot: bool) -> None:
        """The node's system has been told to reboot or to power off; once is enough."""
        if not node.running or self.of(node) is not None:
            return
        self._under_way[node.name] = Shutdown(node.life, reboot)
        world = self._world
        world.log(node, "systemd-logind", "System is rebooting." if reboot else "System is powering down.", 1)
        world.truth("going_down", {"node": node.name, "reboot": reboot})
        world.on(node, self._rng.uniform(0.3, 1.0), lambda: self._close(node), f"{node.name} stops its services")
        others = [
            guest
            for guest in world.guests.values()
            if node.name in guest.processes and guest.sid not in world.pmxcfs.store.resources
        ]
        world.mishaps.going_down(node)
        self._stop_guests(node, others)

    def _close(self, node: Node) -> None:
        self._world.systemd.forget(node)
        self._world.systemd.daemons.stop(node, "pveproxy")

    def _stop_guests(self, node: Node, others: list[Guest]) -> None:
        """Guests without HA are stopped together; the LRM is asked when the last of them is gone."""
        world = self._world
        left = {guest.vmid for guest in others}
        task = world.open_task(node, "stopall", "", "root@pam")

        def gone(vmid: int, _good: bool) -> None:
            left.discard(vmid)
            if not left:
                world.close_task(task, "OK")
                pause = self._rng.uniform(3.6, 5.2)
                world.on(node, pause, lambda: self._stop_lrm(node), f"{node.name} stops its LRM")

        if not others:
            gone(0, True)
        by = ("pve-guests", task.pid)
        for guest in others:
            timeout = _PATIENCE[guest.kind]
            world.guest_acts.shut_down(guest, node, "root@pam", partial(gone, guest.vmid), by, timeout)

    def _stop_lrm(self, node: Node) -> None:
        def ended() -> None:
            pause = self._rng.uniform(1.5, 2.2)
            self._world.on(node, pause, lambda: self._stop_crm(node), f"{node.name} stops its CRM")

        self._world.systemd.daemons.stop(node, "pve-ha-lrm", ended)
        if self._world.planted("reboot-trips-watchdog"):
            kill = partial(self._world.systemd.daemons.signal, node, "pve-ha-lrm", "KILL")
            self._world.on(node, _CUT_SHORT, kill, f"{node.name}: systemd loses patience with the LRM")

    def _stop_crm(self, node: Node) -> None:
        def ended() -> None:
            hanging = _HANGS if self._world.planted("shutdown-hangs") else 0.0
            pause = hanging + self._rng.uniform(2.6, 3.4)
            self._world.on(node, pause, lambda: self._leave_cluster(node), f"{node.name} stops corosync")

        self._world.systemd.daemons.stop(node, "pve-ha-crm", ended)

    def _leave_cluster(self, node: Node) -> None:
        world = self._world
        for guest in world.guests.values():
            world.guest_acts.gone(guest, node.name, "shutdown")
        world.systemd.daemons.stop(node, "corosync")
        for unit in world.ceph.units.names(node.name) if world.ceph is not None else ():
            world.systemd.daemons.stop(node, unit)
        world.on(node, self._rng.uniform(1.5, 3.0), lambda: self._end(node), f"{node.name} is down")

    def _end(self, node: Node) -> None:
        self._world.files[node.name].disk.sync_all()
        shutdown = self.of(node)
        if shutdown is not None and shutdown.reboot:
            self._world.truth("reboot", {"node": node.name})
            self._world.power.reset_now(node, "reboot")
            return
        node.chassis_on = False
        self._world.truth("power_off", {"node": node.name})
        self._world.power.die(node, "shutdown")
