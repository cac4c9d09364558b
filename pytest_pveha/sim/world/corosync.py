"""Membership and quorum: who sees whom, how long a ring takes to notice a loss, and who may write.

A silent loss is noticed after the token timeout and agreed on after the consensus timeout: 6.5 to 6.9 s in a cluster of
three made by PVE 9.1 (token 3.125 s, consensus 3.75 s; measured 6.50, 6.92). A join takes no gap. Until the new ring
stands nothing is written to the cluster file system. Sources: corosync.conf(5), token_coefficient; pve-cluster 9.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.model import Node
from pytest_pveha.sim.world.qdevice import Qdevice

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

_TOKEN = 3.0
LARGE_TOKEN = 22.5
"""What thirty-two nodes have with the coefficient of older clusters: 3 s + 30 × 650 ms."""
_CONSENSUS = 1.2
_BURSTS = 0.25
"""How often a ring that has another link asks again for what was lost on the one that is given up: oftener than seen
(one node's ring in 8 link losses on corosync 3.1), so that most runs meet it."""
_EARLIEST = 0.38
"""How much earlier than token + consensus a loss may be agreed on: the token was last seen before the fault."""


class Corosync:
    """The rings of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("corosync")
        self._luck = world.rng("corosync loses packets")
        self._ring = 4 * self._rng.randint(5, 60)
        self._pending: Event | None = None
        self._lost_at = 0
        self._missed: dict[str, frozenset[int]] = {}
        self._down: set[tuple[int, int, int]] = set()
        self._called_down: set[tuple[int, int, int]] = set()
        """Links that are down, and those that a daemon has noticed to be: its node, the other one, the link."""
        self._waiting: dict[frozenset[int], Event] = {}
        """Rings that have formed and wait for the quorum device, by their members."""
        self.device = Qdevice(world)
        count = len(world.spec.nodes)
        configured = LARGE_TOKEN if world.planted("token-of-a-large-cluster") else _TOKEN
        self.token = configured + (max(0, count - 2) * world.spec.token_coefficient / 1000 if count >= 3 else 0)
        self.consensus = _CONSENSUS * self.token
        self.expected_votes = count + self.device.votes
        self.quorum = 1 if world.spec.two_node else self.expected_votes // 2 + 1
        self._alone: set[str] = set()
        """Nodes that were started and have not met all others: two_node implies wait_for_all (votequorum(5))."""

    def total_votes(self, node: Node) -> int:
        """The votes that node counts: one of each member, and the quorum device's."""
        return len(node.members) + self.device.counted(node)

    def has_quorum(self, node: Node) -> bool:
        """Whether those suffice."""
        if self._world.planted("minority-keeps-quorum"):
            return bool(node.members)
        if self._world.spec.two_node and node.name in self._alone:
            return False
        return self.total_votes(node) >= self.quorum

    def reachable(self, node: Node) -> list[Node]:
        """The nodes that node can form a ring with now, itself included, by node id."""
        return next((group for group in self._groups() if node in group), [])

    def _groups(self) -> list[list[Node]]:
        """All running nodes, parted so that within a group everybody hears everybody.

        Where that can be done in several ways the lowest node id gathers first; real rings may then come and go.
        """
        groups: list[list[Node]] = []
        for node in self._up():
            for group in groups:
                if all(self._world.network.linked(node, other) for other in group):
                    group.append(node)
                    break
            else:
                groups.append([node])
        return groups

    def begin(self) -> None:
        """All nodes are in one ring, as they have been for days."""
        ids = frozenset(node.nodeid for node in self._world.nodes.values())
        self._ring += 4
        for node in self._world.nodes.values():
            node.corosync_up, node.members, node.ring_id = True, ids, self._name(ids)
        self._note_links()
        self._called_down = set(self._down)  # noticed long ago
        self.device.begin()

    def start(self, node: Node) -> None:
        """The daemon has started: alone at first, with the others two seconds later."""
        node.corosync_up = True
        for links in (self._down, self._called_down):  # it knows of none, and looks anew
            links.difference_update({key for key in links if key[0] == node.nodeid})
        self._note_links()
        self._alone.add(node.name)
        self.device.follow()
        self._say(node, "[MAIN  ] Corosync Cluster Engine 3.1.9 starting up")
        self._install([node], ())
        # until the links are up; measured 1.99 and 1.95 s
        self._world.on(node, self._rng.uniform(1.7, 2.0), self.merge, "corosync joins")

    def follow(self) -> None:
        """Somebody's packet filter has changed: rings that lost a member break, others join two seconds later."""
        self._calm()
        self.disturbed()
        if self._waiting or any(node.members != _ids(self.reachable(node)) for node in self._up()):
            self._world.timeline.after(self._rng.uniform(1.7, 2.0), self.merge, "corosync joins")

    def _calm(self) -> None:
        """Those who hear each other again before the token was given up go on as if nothing had been."""
        late = self._world.timeline.now - self._lost_at > self.token * SECOND
        if self._pending is None or late or any(n.members - _ids(self.reachable(n)) for n in self._up()):
            return
        self._pending.cancel()
        self._pending = None
        for node in self._up():
            self._go_on(node)

    def _go_on(self, node: Node) -> None:
        """It need not wait for a new ring, if all that it hears are still in the one it was in."""
        group = self.reachable(node)
        if any(other.members != _ids(group) for other in group):
            return
        node.syncing = False
        waiting, node.stalled = node.stalled, []
        for act in waiting:
            self._world.on(node, 0.02, act, "a stalled round goes on")

    def _note_links(self) -> None:
        """With several links, each that goes down or comes back is in the journal; with one, the ring says it."""
        links = range(self._world.spec.links)
        if len(links) == 1:
            return
        for node in self._up():
            for other in self._up():
                for link in links if other is not node else ():
                    key = (node.nodeid, other.nodeid, link)
                    up = self._world.network.link_up(node, other, link)
                    if up == (key not in self._down):
                        continue
                    (self._down.discard if up else self._down.add)(key)
                    noticed = partial(self._notice, node, other, link, up)
                    self._world.on(node, self._rng.uniform(1.6, 1.9), noticed, "corosync warns")

    def _notice(self, node: Node, other: Node, link: int, up: bool) -> None:
        """Pings over the link have failed long enough, or come again: 1.1 to 4.5 s were seen on corosync 3.1.7."""
        key = (node.nodeid, other.nodeid, link)
        if up == (key in self._down):  # it changed again meanwhile
            return
        (self._called_down.discard if up else self._called_down.add)(key)
        carried = any(self._world.network.link_up(node, other, each) for each in range(self._world.spec.links))
        if not up and carried and self._luck.random() < _BURSTS:
            self._ask_again(node)
        self._say(node, f"[KNET  ] link: host: {other.nodeid} link: {link} is {'up' if up else 'down'}")

    def _ask_again(self, node: Node) -> None:
        """Packets were sent over the link until it was given up: a burst within milliseconds."""
        first = self._luck.randint(0x10, 0xFFF0)
        for _ in range(self._luck.randint(15, 60)):
            self._say(node, f"[TOTEM ] Retransmit List: {first:x} ")

    def calls_up(self, node: Node, other: Node, link: int) -> bool:
        """Whether that node's daemon calls the link to the other up."""
        if not other.corosync_up:
            return False
        if self._world.spec.links == 1:
            return self._world.network.link_up(node, other, link)
        return (node.nodeid, other.nodeid, link) not in self._called_down

    def merge(self) -> None:
        """Nodes that see each other are in one ring, unless a ring is being formed anyway."""
        if self._pending is not None:
            return
        for node in self._up():
            group = self.reachable(node)
            ids = _ids(group)
            if ids in self._waiting:
                continue
            waiting = [each for each in self._waiting if each & ids]
            if waiting or any(n.members != ids for n in group):
                for each in waiting:
                    self._waiting.pop(each).cancel()
                self._install(group, ())

    def stop(self, node: Node) -> None:
        """The daemon has left in good order: the others agree at once."""
        others = [n for n in self.reachable(node) if n is not node]
        self.forget(node)
        if self._pending is None and others:
            self._install(others, ())

    def forget(self, node: Node) -> None:
        """The daemon is gone, in good order or not."""
        node.corosync_up = node.syncing = False
        node.members, node.ring_id = frozenset(), ""
        node.stalled.clear()

    def woken(self, node: Node) -> None:
        """The daemon goes on after having stood still: as if nothing had been, or the others join it again."""
        self.follow()
        if self._pending is None:
            self._go_on(node)

    def disturbed(self) -> None:
        """Somebody vanished silently: those who miss a member stall, and agree on a new ring after the timeouts."""
        self.device.follow()
        self._note_links()
        missed = {n.name: lost for n in self._up() if (lost := n.members - _ids(self.reachable(n)))}
        if not missed or ((self._pending is not None or self._waiting) and missed == self._missed):
            return
        for waiting in list(self._waiting):
            self._waiting.pop(waiting).cancel()
        self._missed = missed
        self._world.mishaps.disturbed()
        hurt = [node for node in self._up() if node.name in missed]
        early = self._rng.uniform(-_EARLIEST, 0.03)
        gap = self.token + self.consensus + early
        first = self._rng.choice(hurt)
        for node in hurt:
            node.syncing = True
            group = self.reachable(node)  # who notices first tells the others of it, on each side of a cut
            self._announce(node, node is (first if first in group else group[0]), early)
        if self._pending is not None:
            self._pending.cancel()
        else:
            self._lost_at = self._world.timeline.now
        self._pending = self._world.timeline.after(gap, self._form, "corosync forms a new membership")

    def _announce(self, node: Node, first: bool, early: float) -> None:
        def say(text: str) -> None:
            if node.syncing:
                self._say(node, text)

        for lost in sorted(node.members - _ids(self.reachable(node))):
            down = self._rng.uniform(1.0, 1.3)
            if self._world.spec.links == 1:
                link = partial(say, f"[KNET  ] link: host: {lost} link: 0 is down")
                self._world.on(node, down, link, "corosync warns")
            active = partial(say, f"[KNET  ] host: host: {lost} has no active links")
            self._world.on(node, down, active, "corosync warns")
        warning = f"[TOTEM ] Token has not been received in {self.token * 750:.0f} ms"
        self._world.on(node, self.token * 0.75 + early, lambda: say(warning), "corosync warns")
        if first:
            failed = (
                f"[TOTEM ] A processor failed, forming new configuration: token timed out ({self.token * 1000:.0f}ms), "
                f"waiting {self.consensus * 1000:.0f}ms for consensus."
            )
            self._world.on(node, self.token + early, lambda: say(failed), "corosync warns")

    def _form(self) -> None:
        self._pending = None
        done: set[str] = set()
        for node in self._up():
            if node.syncing and node.name not in done:
                group = self.reachable(node)
                done |= {n.name for n in group}
                silent = frozenset(lost for n in group for lost in n.members - _ids(group))
                self._agreed(group, silent)
        self.merge()

    def _agreed(self, group: list[Node], silent: frozenset[int]) -> None:
        """The ring is in force at once, or when the quorum device has decided about it."""
        others = [node for node in self._world.nodes.values() if node not in group]
        seconds = self.device.wait(group, others)
        if not seconds:
            self._install(group, silent)
            return
        ids = _ids(group)
        for node in group:
            self._say(node, "[VOTEQ ] waiting for quorum device Qdevice poll (but maximum for 30000 ms)")
        self._waiting[ids] = self._world.timeline.after(seconds, partial(self._decided, ids, silent), "qdevice decides")

    def _decided(self, ids: frozenset[int], silent: frozenset[int]) -> None:
        """Whoever waited for the device goes on, with those it hears by now."""
        self._waiting.pop(ids, None)
        done: set[str] = set()
        for node in self._up():
            if node.nodeid in ids and node.syncing and node.name not in done:
                group = self.reachable(node)
                done |= {each.name for each in group}
                self._install(group, silent - _ids(group))

    def _install(self, group: list[Node], silent: Iterable[int]) -> None:
        """The group is one ring from now on; ``silent`` are those who left without saying so."""
        ids = _ids(group)
        self._ring += 4
        ring = self._name(ids)
        before = {node.name: (node.members, self._world.quorate(node), self.has_quorum(node)) for node in group}
        for node in group:
            node.members, node.ring_id, node.syncing = ids, ring, False
            if len(ids) == len(self._world.nodes):
                self._alone.discard(node.name)
        self.device.decided(group)
        for node in group:
            self._record(node, before[node.name][0], before[node.name][2], frozenset(silent))
        left = sorted(frozenset().union(*(old for old, _, _ in before.values())) - ids)
        quorate = any(self.has_quorum(node) for node in group)
        data = {"members": sorted(ids), "left": left, "ring": ring, "quorate": quorate}
        self._world.truth("membership", data)
        for node in group:
            self._world.follow_quorum(node, before[node.name][1])
        for position, node in enumerate(group):
            waiting, node.stalled = node.stalled, []
            for act in waiting:
                # after the daemon has synchronised: 2 to 5 ms for the ring, 10 for the file system
                self._world.on(node, 0.02 + 0.003 * position, act, "a stalled round goes on")
        if left:
            self._world.membership_lost(group)

    def _record(self, node: Node, old: frozenset[int], was_quorate: bool, silent: frozenset[int]) -> None:
        ids = node.members
        joined, left = sorted(ids - old), sorted(old - ids)
        self._say(node, f"[QUORUM] Sync members[{len(ids)}]: {_list(ids)}")
        if joined:
            self._say(node, f"[QUORUM] Sync joined[{len(joined)}]: {_list(joined)}")
        if left:
            self._say(node, f"[QUORUM] Sync left[{len(left)}]: {_list(left)}")
        changes = f" Members joined: {_list(joined)}" if joined else ""
        changes += f" Members left: {_list(left)}" if left else ""
        self._say(node, f"[TOTEM ] A new membership ({node.ring_id}) was formed.{changes}")
        if failed := [n for n in left if n in silent]:
            self._say(node, f"[TOTEM ] Failed to receive the leave message. failed: {_list(failed)}")
        self.say_quorum(node, bool(old) and was_quorate, self.has_quorum(node))
        self._say(node, f"[QUORUM] Members[{len(ids)}]: {_list(ids)}")
        self._say(node, "[MAIN  ] Completed service synchronization, ready to provide service.")

    def say_quorum(self, node: Node, had: bool, has: bool) -> None:
        """The journal tells that quorum came or went."""
        if has and not had:
            self._say(node, "[QUORUM] This node is within the primary component and will provide service.")
        if had and not has:
            self._say(node, "[QUORUM] This node is within the non-primary component and will NOT provide any services.")

    def _say(self, node: Node, text: str) -> None:
        # corosync itself indents its lines by two blanks
        self._world.log(node, "corosync", f"  {text}")

    def _up(self) -> list[Node]:
        """Those whose daemon runs and is not stopped in mid-work."""
        return sorted((n for n in self._world.nodes.values() if n.corosync_up and not n.stopped("corosync")), key=_id)

    def _name(self, ids: frozenset[int]) -> str:
        return f"{min(ids):x}.{self._ring:x}"


def _id(node: Node) -> int:
    return node.nodeid


def _ids(nodes: Iterable[Node]) -> frozenset[int]:
    return frozenset(node.nodeid for node in nodes)


def _list(ids: Iterable[int]) -> str:
    return " ".join(str(one) for one in sorted(ids))
