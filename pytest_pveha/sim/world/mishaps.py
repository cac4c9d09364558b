"""What is wrong with a site from the beginning, and what goes wrong beside a fault: only where a defect is planted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.model import Guest, Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph import Ceph
    from pytest_pveha.sim.world.world import World

_CLOCK = 5.0
_CRASHED = 330.0
_RECOVERING = 30.0
"""Seconds after a membership's loss at which the lost OSDs have been missed, and the others make up for them."""
_DRAGGED = 30.0
_SOON_ALL_ARE_CUT = 1.0
_FLAP = 11.0
_SCRIPT, _SLOWER_SCRIPT = 10.0, 30.0
_FROZEN = 900 * SECOND
_KEPT = 300 * SECOND
_BALANCED = 60.0
_TIMES = 4
_SOON = 5.0
"""Seconds after a membership's loss at which something else breaks."""


class Mishaps:
    """The mishaps of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.locks: dict[int, str] = {}
        """Guests that something holds: vmid → ``backup`` and the like."""
        self.paused: frozenset[int] = frozenset()
        """Guests whose processor stands still."""
        self._dragging = False
        self.own_mac: str | None = None
        """The address of this machine's network card, if the first guest is to have it."""
        self.pinned = self._first_of_each() if world.planted("guest-cannot-migrate") else frozenset[str]()
        """Guests that cannot move while they run."""
        self._called_back: dict[str, int] = {}
        last = list(world.nodes.values())[-1]
        for node in world.nodes.values():
            node.clock_offset += node.spec.clock
        if world.planted("clock-off"):
            last.clock_offset += _CLOCK
        if world.planted("expected-votes-lowered"):
            world.corosync.expected_votes -= 1
        if world.planted("controller-is-a-guest"):
            self.own_mac = _own_mac()

    def begin(self) -> None:
        """Everything runs by now."""
        world = self._world
        if world.ceph is not None:
            self._begin_ceph(world.ceph)
        last = list(world.nodes.values())[-1]
        guests = [guest for guest in world.guests.values() if guest.config_node == last.name]
        if world.planted("backup-running"):
            world.open_task(last, "vzdump", "", "root@pam").log.append("INFO: starting new backup job")
            self.locks = {guest.vmid: "backup" for guest in guests[:1]}
        if world.planted("guest-paused"):
            self.paused = frozenset(guest.vmid for guest in guests if not guest.spec.ha)
        if world.planted("ha-guest-paused"):
            first = next(guest for guest in world.guests.values() if guest.spec.ha)
            self.paused |= {first.vmid}
            for process in first.processes.values():
                process.answering = process.agent_up = False
        if world.planted("ha-disarmed"):
            world.pmxcfs.store.manager["disarm"] = {"mode": "freeze", "state": "disarmed"}
            for service in world.pmxcfs.store.manager["service_status"].values():
                service["state"] = "freeze" if service["state"] == "started" else service["state"]
        if world.planted("watchdog-device-taken"):
            last.units["watchdog-mux"].active, last.units["watchdog-mux"].failed = False, True
            last.units["watchdog-mux"].pid = 0
            last.watchdog.close()
            if last.lrm is not None:
                last.lrm.state = "wait_for_agent_lock"
                last.lrm.write_status()
        if world.planted("lrm-not-enabled"):
            world.systemd.disable(last, "pve-ha-lrm.service")
        if world.planted("maintenance-forgotten"):
            world.pmxcfs.store.manager["node_request"] = {last.name: {"maintenance": 1}}

    def lets_through(self, node: Node) -> bool:
        """Whether what is planted between the node and the quorum device's machine lets it through."""
        world = self._world
        first = [each for each in world.nodes.values() if each.spec.room == self._first_room]
        if world.planted("tiebreaker-behind-one-room") and node not in first:
            return any(each.running and world.network.linked(node, each) for each in first)
        if world.planted("tiebreaker-loses-room"):
            return any(each.running for each in first)
        return True

    def rooms_meet(self, one: Node, other: Node) -> bool:
        """Whether what is planted between two rooms lets their nodes hear each other."""
        if one.spec.room == other.spec.room or not self._world.planted("rooms-meet-at-the-tiebreaker"):
            return True
        every = list(self._world.nodes.values())
        alone = [node for node in every if sum(each.spec.room == node.spec.room for each in every) == 1]
        return not alone or any(node.running for node in alone)

    def bmc_lost(self, peer: Node) -> bool:
        """Whether that node's way to every BMC is gone with its first corosync link: one cable, one switch."""
        if not self._world.planted("bmcs-on-production-switch"):
            return False
        others = [node for node in self._world.nodes.values() if node is not peer and node.running]
        return not any(self._world.network.link_up(peer, other, 0) for other in others)

    @property
    def _first_room(self) -> str:
        return next(iter(self._world.nodes.values())).spec.room

    def _begin_ceph(self, ceph: Ceph) -> None:
        """What is wrong with Ceph from the beginning."""
        planted = self._world.planted
        if planted("ceph-degraded"):
            ceph.osds[0].flags.add("noout")
            ceph.failed.add(0)
            ceph.node(ceph.osds[0]).units["ceph-osd@0"].active = False
            ceph.node(ceph.osds[0]).units["ceph-osd@0"].failed = True
            ceph.osd_map.down([ceph.osds[0]])
            ceph.groups.peer_at_once()
            ceph.digest.begin()
        if planted("ceph-flag-forgotten"):
            ceph.flags.add("noout")

    def missing_tools(self, node: Node) -> frozenset[str]:
        """Commands that somebody forgot to install there."""
        last = next(reversed(self._world.nodes.values()))
        planted = node is last and self._world.planted("fence-tool-missing")
        return frozenset({"ipmitool", "curl"}) if planted else frozenset()

    def acknowledged(self, master: Node, fenced: str) -> None:
        """The CRM of that master has acknowledged a node's fence."""
        if self._world.planted("another-is-fenced-too"):
            others = [one.name for one in self._world.nodes.values() if one is not master and one.name != fenced]
            for text in (
                f"node '{others[-1]}': state changed from 'unknown' => 'fence'",
                f"fencing: acknowledged - got agent lock for node '{others[-1]}'",
            ):
                self._world.log(master, "pve-ha-crm", text)

    def lrm_stops(self, node: Node) -> None:
        """The node's LRM has been told to end."""
        if self._world.planted("restart-kills-guests"):
            for guest, _ in self._on([node], list(self._world.guests.values())):
                self._world.kill_guest(guest.vmid, node.name)

    def lrm_starts(self, node: Node) -> None:
        """The node's LRM is started."""
        if self._world.planted("watchdog-nearly-fires"):
            for text in ("watchdog is about to expire", "watchdog was updated before expiring"):
                self._world.log(node, "watchdog-mux", f"client (PID {node.units['pve-ha-lrm'].pid}) {text}")

    def lost(self, survivors: list[Node]) -> None:
        """A ring has lost members; these are left."""
        world = self._world
        if world.planted("protected-guest-dies"):
            strangers = [guest for guest in world.guests.values() if not guest.spec.ha]
            for guest, node in self._on(survivors, strangers)[:1]:  # nobody starts it again
                world.on(node, _SOON, partial(world.kill_guest, guest.vmid, node.name), f"{guest.sid} dies")
        if world.planted("guest-given-up"):
            managed = [guest for guest in world.guests.values() if guest.spec.ha]
            for guest, node in self._on(survivors, managed)[:1]:
                world.on(node, _SOON, partial(self._give_up, guest, node), f"{guest.sid} is given up")
        if world.ceph is not None and world.planted("osd-fails-too"):
            for osd in world.ceph.crush.hosts()[survivors[0].name]:
                world.timeline.after(_RECOVERING, partial(world.ceph.fail, osd), f"osd.{osd} crashes")
                world.timeline.after(_CRASHED, partial(world.ceph.repair, osd), f"osd.{osd} is up again")

    def disturbed(self) -> None:
        """Somebody no longer hears somebody."""
        if self._world.planted("cut-takes-more") and not self._dragging:
            self._dragging = True
            self._world.timeline.after(_SOON_ALL_ARE_CUT, self._drag, "another node is dragged along")

    def _drag(self) -> None:
        """One more node of the largest side hears nobody for a while."""
        world = self._world
        first = max((world.corosync.reachable(node) for node in world.nodes.values()), key=len)
        dragged = [node for node in first if node.crm_state != "master"]
        if len(first) < len(world.nodes) and dragged:
            name = dragged[-1].name
            world.cut_network(name)
            world.timeline.after(_DRAGGED, partial(world.restore_network, name), f"{name} is back")
        self._dragging = False

    def quorum_lost(self, node: Node) -> None:
        """The node has lost quorum."""
        for defect, seconds in (("short-loss-resets", _SCRIPT), ("reset-before-its-time", _SLOWER_SCRIPT)):
            if self._world.planted(defect):
                self._world.on(node, seconds, partial(self._reset_without_quorum, node), f"a script resets {node.name}")

    def _reset_without_quorum(self, node: Node) -> None:
        if not self._world.quorate(node):
            self._world.power.reset_now(node, "script")

    def filters_gone(self, node: Node) -> None:
        """The last filter of that node was taken back."""
        world = self._world
        if world.planted("rejoin-flaps"):
            for begin in (_FLAP, 3 * _FLAP):
                world.timeline.after(begin, partial(world.cut_network, node.name), f"{node.name} flaps")
                world.timeline.after(begin + _FLAP, partial(world.restore_network, node.name), f"{node.name} is back")

    def forgets_to_thaw(self, node: str) -> bool:
        """Whether the manager leaves a node's services frozen though its LRM is back."""
        world = self._world
        booted = world.nodes[node].booted_at or 0
        return world.planted("stays-frozen") and world.timeline.now - booted < _FROZEN

    def stays_in_maintenance(self, node: Node) -> bool:
        """Whether an LRM that was called back from maintenance does not heed it yet."""
        world = self._world
        since = self._called_back.setdefault(node.name, world.timeline.now)
        return world.planted("maintenance-not-left") and world.timeline.now - since < _KEPT

    def going_down(self, node: Node) -> None:
        """A node goes down in good order."""
        world = self._world
        if world.planted("guest-lost-on-shutdown"):
            for guest, _ in self._on([node], [guest for guest in world.guests.values() if guest.spec.ha])[:1]:
                world.pmxcfs.store.resources[guest.sid]["state"] = "stopped"

    def returned(self, node: Node) -> None:
        """A node has booted."""
        if self._world.planted("guest-to-and-fro"):
            for turn in range(1, _TIMES + 1):
                self._world.on(node, turn * _BALANCED, partial(self._balance, node), "somebody's script balances")

    def _balance(self, node: Node) -> None:
        """A script of somebody's sends the first guest of that node to another one."""
        world = self._world
        others = [one.name for one in world.nodes.values() if one.running and one is not node]
        managed = [guest for guest in world.guests.values() if guest.spec.ha]
        for guest, _ in self._on([node], managed)[:1]:
            world.crm_command(others[0], f"migrate {guest.sid} {others[0]}")

    def _first_of_each(self) -> frozenset[str]:
        """The first VM under HA of every node."""
        first: dict[str, str] = {}
        for guest in self._world.guests.values():
            if guest.spec.ha and guest.kind == "vm":
                first.setdefault(guest.spec.node, guest.sid)
        return frozenset(first.values())

    def _give_up(self, guest: Guest, node: Node) -> None:
        """The guest died, and no start of it succeeded any more: its service is in error until somebody disables it."""
        self._world.kill_guest(guest.vmid, node.name)
        services = self._world.pmxcfs.store.manager["service_status"]
        services[guest.sid] = {"node": node.name, "state": "error", "uid": self._world.uid()}

    def _on(self, nodes: list[Node], guests: list[Guest]) -> list[tuple[Guest, Node]]:
        """Which of these guests run there, and where."""
        return [(guest, node) for guest in guests for node in nodes if node.name in guest.processes]


def _own_mac() -> str | None:
    """The address of one of this machine's network cards: the simulator stands where the run does."""
    texts = (path.read_text().strip() for path in sorted(Path("/sys/class/net").glob("*/address")))
    return next((text for text in texts if text.strip("0:")), None)
