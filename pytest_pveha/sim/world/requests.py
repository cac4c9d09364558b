"""What a user asks of guests, and what PVE says at once. Where the HA manager is in charge, a task only writes it down.

Words: qemu-server and pve-container as of PVE 9.1; recorded task logs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.sim.world.guests import By
from pytest_pveha.sim.world.model import Guest, Node, Refused, Task

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

SHUTDOWN_TIMEOUT = 60.0


class Requests:
    """The acts of users on the guests of one world. Each returns the task's UPID; Refused carries PVE's words."""

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, vmid: int, user: str) -> str:
        """The guest is asked to start."""
        guest, node = self._where(vmid)
        guest.wanted = True
        if self._managed(guest):
            self._world.pmxcfs.store.resources[guest.sid]["state"] = "started"
            return self._quick(node, "hastart", guest, user, f"Requesting HA start for {_named(guest)}")
        return self._world.guest_acts.start(guest, node, user, _nobody, self._daemon(node)).upid

    def stop(self, vmid: int, user: str) -> str:
        """The guest is asked to stop at once."""
        guest, node = self._where(vmid)
        guest.wanted = False
        if self._managed(guest):
            return self._ha_stop(guest, node, user, 0)
        return self._world.guest_acts.stop(guest, node, user, _nobody, self._daemon(node)).upid

    def shut_down(self, vmid: int, user: str, timeout: float = SHUTDOWN_TIMEOUT) -> str:
        """The guest is asked to shut itself down within so many seconds, and stopped else."""
        guest, node = self._where(vmid)
        guest.wanted = False
        if self._managed(guest):
            return self._ha_stop(guest, node, user, timeout)
        acts = self._world.guest_acts
        return acts.shut_down(guest, node, user, _nobody, self._daemon(node), timeout).upid

    def migrate(self, vmid: int, target: str, user: str, *, online: bool = True) -> str:
        """The guest is asked to move; an HA guest's request waits for the CRM's next round."""
        guest, node = self._where(vmid)
        if target not in self._world.nodes:
            raise Refused(f"no such cluster node '{target}'")
        if target == node.name:
            raise Refused("can't migrate to local node")
        if self._world.nodes[target].nodeid not in self._world.view_members(node):
            raise Refused(f"node '{target}' is not online")
        if self._managed(guest):
            self._world.pmxcfs.store.commands.append(f"migrate {guest.sid} {target}")
            text = f"Requesting HA migration for {_named(guest)} to node {target}"
            return self._quick(node, "hamigrate", guest, user, text)
        if node.name in guest.processes and (guest.kind == "ct" or not online):
            what = "container" if guest.kind == "ct" else "VM"
            option = "--online or --restart" if guest.kind == "ct" else "--online"
            raise Refused(f"can't migrate running {what} without {option}")
        return self._world.guest_acts.migrate(guest, node, target, user, _nobody, self._daemon(node)).upid

    def _ha_stop(self, guest: Guest, node: Node, user: str, timeout: float) -> str:
        self._world.pmxcfs.store.commands.append(f"stop {guest.sid} {timeout:.0f}")
        return self._quick(node, "hastop", guest, user, f"Requesting HA stop for {_named(guest)}")

    def _managed(self, guest: Guest) -> bool:
        """Whether the HA manager is to be asked: it has the guest, and minds it."""
        store = self._world.pmxcfs.store
        resource = store.resources.get(guest.sid)
        ignoring = store.manager.get("disarm", {}).get("mode") == "ignore"
        return resource is not None and resource["state"] != "ignored" and not ignoring

    def _where(self, vmid: int) -> tuple[Guest, Node]:
        guest = self._world.guests[vmid]
        node = self._world.nodes[guest.config_node]
        if not self._world.quorate(node):
            raise Refused("cluster not ready - no quorum?")
        return guest, node

    def _quick(self, node: Node, kind: str, guest: Guest, user: str, text: str) -> str:
        task: Task = self._world.open_task(node, kind, str(guest.vmid), user)
        task.log.append(text)
        self._world.close_task(task, "OK")
        return task.upid

    def _daemon(self, node: Node) -> By:
        return "pvedaemon", node.units["pvedaemon"].pid


def _named(guest: Guest) -> str:
    return f"{guest.kind.upper()} {guest.vmid}"


def _nobody(_good: bool) -> None:
    """Nobody waits for the task."""
