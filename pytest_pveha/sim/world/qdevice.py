"""The external vote: corosync-qnetd on a machine of its own, and the daemon on each node that asks it.

ffsplit casts one vote for one half, lms all but one for who is left. A line that breaks silently is noticed by
heartbeats, one every 8 s: by the node when the next one comes and the last was not answered (10.6 to 15.7 s seen), by
qnetd when none has come for 9.6 s (6.7 to 8.9 s seen). Through a filter that opens again it stands after 0.2 to 1 s, to
a qnetd that starts again after 6.1 to 6.5 s; with qnetd known to be gone nobody waits (measured: corosync 3.1.7 with
ffsplit). Until the device has decided, a new membership is not in force.
Sources: corosync-qdevice(8), corosync-qnetd(8), votequorum(5).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.model import Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

_LATE = 38.0
_UNANSWERED = (8.0, 16.0)
"""Seconds after which a node misses qnetd: from its next heartbeat on, the one before it lacks an answer."""
_UNHEARD = (1.6, 9.6)
"""Seconds after which qnetd misses a node: 1.2 heartbeats after the last one that came."""
_STARTED = (5.9, 6.6)
_OPENED = (0.2, 4.0)
"""Seconds until a line stands again: when qnetd has started, and when a filter has opened (TCP sends its SYN again)."""


class Qdevice:
    """The quorum device of one world; without one nobody counts on it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("qdevice")
        self.algorithm = world.spec.qdevice
        count = len(world.spec.nodes)
        self.votes = 0 if not self.algorithm else 1 if self.algorithm == "ffsplit" else count - 1
        self.up = bool(self.algorithm)
        """Whether qnetd runs."""
        self._connected: set[str] = set()
        self._cast: dict[str, int] = {}
        self._changes: dict[str, Event] = {}
        self._missed: dict[str, tuple[int, int]] = {}
        """When a broken line is noticed: by the node, and by qnetd."""

    def begin(self) -> None:
        """Every node's line has stood for days."""
        if self.algorithm:
            self._connected = set(self._world.nodes)
            votes = 0 if self._world.planted("qdevice-not-voting") else self.votes
            self._cast = dict.fromkeys(self._world.nodes, votes)

    def state(self, node: Node) -> str:
        """What the node's daemon says of its line to qnetd."""
        return "Connected" if node.name in self._connected else "Connecting"

    def counted(self, node: Node) -> int:
        """The device's votes as that node counts them."""
        return self._cast.get(node.name, 0)

    def switch(self, *, up: bool) -> None:
        """qnetd's machine is there, or gone in silence."""
        self.up = up
        self._world.truth("qnetd", {"up": up})
        self.follow(_STARTED)

    def _reaches(self, node: Node) -> bool:
        return self.up and node.corosync_up and self._world.network.reaches(node, self._world.spec.qdevice_host)

    def follow(self, again: tuple[float, float] = _OPENED) -> None:
        """Lines that broke, or could stand again, are noticed a while later."""
        if not self.algorithm:
            return
        for node in self._world.nodes.values():
            up, stands = self._reaches(node), node.name in self._connected
            if up == stands:
                if change := self._changes.pop(node.name, None):
                    change.cancel()
            elif node.name not in self._changes:
                after = self._rng.uniform(*again) if up else self._miss(node)
                change = self._world.timeline.after(after, partial(self._change, node), f"qdevice of {node.name}")
                self._changes[node.name] = change

    def _miss(self, node: Node) -> float:
        """Seconds until the node misses qnetd; when either misses the other is decided."""
        after, now = self._rng.uniform(*_UNANSWERED), self._world.timeline.now
        unheard = self._rng.uniform(*_UNHEARD)
        self._missed[node.name] = now + round(after * SECOND), now + round(unheard * SECOND)
        return after

    def _change(self, node: Node) -> None:
        self._changes.pop(node.name, None)
        world = self._world
        (self._connected.add if self._reaches(node) else self._connected.discard)(node.name)
        had = {each.name: world.quorate(each) for each in world.nodes.values()}
        for each in world.nodes.values():
            if each.corosync_up and not each.syncing:
                self._decide([other for other in world.nodes.values() if other.nodeid in each.members])
        for each in world.nodes.values():
            if had[each.name] != world.quorate(each):
                world.corosync.say_quorum(each, had[each.name], world.quorate(each))
                world.follow_quorum(each, had[each.name])

    def wait(self, group: list[Node], others: Iterable[Node]) -> float:
        """Seconds from a ring's forming until the device has decided about it."""
        if not self.algorithm or not any(node.name in self._connected for node in group):
            return 0.0
        if self._world.planted("qnetd-decides-late"):
            return _LATE
        now = self._world.timeline.now
        own = [self._missed[node.name][0] for node in group if self._stale(node)]
        theirs = [self._missed[node.name][1] for node in others if self._stale(node)]
        return (max(now, *(own or theirs)) - now) / SECOND if own or theirs else 0.0

    def _stale(self, node: Node) -> bool:
        """Whether its line is broken and nobody has noticed."""
        return node.name in self._connected and not self._reaches(node)

    def decided(self, group: list[Node]) -> None:
        """The ring is in force: who lost its line meanwhile is known, and the votes are cast."""
        for node in group:
            if self._stale(node):
                self._connected.discard(node.name)
        self._decide(group)

    def _decide(self, group: list[Node]) -> None:
        if not self.algorithm:
            return
        granted = (self._wins(group) or self._world.planted("room-cut-starts-both")) and not self._world.planted(
            "qdevice-not-voting"
        )
        for node in group:
            self._cast[node.name] = self.votes if granted and node.name in self._connected else 0

    def _wins(self, group: list[Node]) -> bool:
        """Whether qnetd votes for this part: the largest that it hears of, and of two halves the lowest node id's."""
        rings = {
            ids
            for node in self._world.nodes.values()
            if node.name in self._connected and self._reaches(node) and (ids := self._ring(node))
        }
        mine = frozenset(node.nodeid for node in group)
        if mine not in rings:
            return False
        best = max(rings, key=lambda ids: (len(ids), -min(ids)))
        half = self.algorithm != "ffsplit" or 2 * len(mine) >= len(self._world.nodes)
        return mine == best and half

    def _ring(self, node: Node) -> frozenset[int]:
        return frozenset(other.nodeid for other in self._world.corosync.reachable(node))
