"""The ways between rooms: how long a packet takes, how evenly, and how many are lost; and what corosync makes of it.

Below 5 ms between all nodes corosync works; above 10 ms, with more than three nodes, it is unlikely to (pve-docs,
pvecm, network requirements). What a ring under strain says, in the wording of corosync 3.1 and knet 1.30: tokens that
are late by three quarters of the timeout, retransmit lists, links that go down and come back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_pveha.sim.spec import PathSpec

if TYPE_CHECKING:
    from pytest_pveha.sim.world.model import Node
    from pytest_pveha.sim.world.world import World

WITHIN_A_ROOM = PathSpec("", "", delay_ms=0.08, jitter_ms=0.01)
"""One switch."""
_STRAINED, _LOSSY, _UNEVEN = 10.0, 0.5, 3.0
"""Round trip (ms), loss (percent) and jitter (ms) above which a ring of more than three nodes complains."""
_COMPLAINS = (15.0, 45.0)
"""Seconds between two complaints."""


@dataclass(frozen=True, slots=True)
class Strain:
    """What weighs on the ring: the worst of all its ways."""

    round_trip_ms: float
    jitter_ms: float
    loss_percent: float

    @property
    def late(self) -> bool:
        """Whether tokens are late."""
        return self.round_trip_ms > _STRAINED or self.jitter_ms > _UNEVEN

    @property
    def lossy(self) -> bool:
        """Whether messages are sent again and again, and links flap."""
        return self.loss_percent > _LOSSY


class Paths:
    """The ways between the rooms of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("paths")
        self._ways = {(path.source, path.target): path for path in world.spec.paths}

    def begin(self) -> None:
        """The ring says from now on what weighs on it."""
        strain = self.strain()
        if len(self._world.nodes) > 3 and (strain.late or strain.lossy):
            self._complain_later(strain)

    def room(self, host: str) -> str:
        """The room of the machine with that address; empty where nobody told."""
        if host == self._world.spec.qdevice_host:
            return self._world.spec.qdevice_room
        node = self.node_at(host)
        return "" if node is None else node.spec.room

    def node_at(self, host: str) -> Node | None:
        """The node with that address."""
        return next((node for node in self._world.nodes.values() if host in self._world.network.addresses(node)), None)

    def way(self, source: str, target: str) -> PathSpec:
        """From the one room to the other."""
        way = self._ways.get((source, target), WITHIN_A_ROOM)
        return way if source == target else self._spoilt(way, source, target)

    def _spoilt(self, way: PathSpec, source: str, target: str) -> PathSpec:
        """That way between two rooms with what is planted in it."""
        planted = self._world.planted
        if self._world.spec.qdevice_room in (source, target):
            return replace(way, delay_ms=80.0) if planted("tiebreaker-far-away") else way
        if planted("rooms-far-apart"):
            way = replace(way, delay_ms=6.0)
        if planted("one-direction-slow") and source == next(reversed(self._world.nodes.values())).spec.room:
            way = replace(way, delay_ms=12.0)
        if planted("uneven-way"):
            way = replace(way, jitter_ms=4.0)
        if planted("lossy-way"):
            way = replace(way, loss_percent=1.0)
        return way

    def round_trip(self, source: str, target: str) -> float | None:
        """Milliseconds that one echo takes, there and back; None where it is lost on the way."""
        total = 0.0
        for way in (self.way(source, target), self.way(target, source)):
            if self._rng.uniform(0.0, 100.0) < way.loss_percent:
                return None
            total += way.delay_ms + abs(self._rng.gauss(0.0, way.jitter_ms))
        return total

    def mean(self, source: str, target: str) -> float:
        """Milliseconds that an echo takes on average."""
        ways = self.way(source, target), self.way(target, source)
        return sum(way.delay_ms + way.jitter_ms * math.sqrt(2 / math.pi) for way in ways)

    def worst(self, source: str, target: str) -> float:
        """Milliseconds that the slowest of thousands of echoes took."""
        ways = self.way(source, target), self.way(target, source)
        return sum(way.delay_ms + 3.5 * way.jitter_ms for way in ways)

    def strain(self) -> Strain:
        """The worst of all ways between nodes."""
        rooms = sorted({node.spec.room for node in self._world.nodes.values()})
        pairs = [(one, other) for one in rooms for other in rooms]
        both = [(self.way(one, other), self.way(other, one)) for one, other in pairs]
        return Strain(
            max(self.mean(one, other) for one, other in pairs),
            max(max(there.jitter_ms, back.jitter_ms) for there, back in both),
            max(there.loss_percent + back.loss_percent for there, back in both),
        )

    # what the ring says of it

    def _complain_later(self, strain: Strain) -> None:
        after = self._rng.uniform(*_COMPLAINS)
        self._world.timeline.after(after, partial(self._complain, strain), "corosync under strain")

    def _complain(self, strain: Strain) -> None:
        """One node, while all are one ring: what is broken on purpose has words of its own."""
        nodes = list(self._world.nodes.values())
        whole = all(node.corosync_up and not node.syncing and len(node.members) == len(nodes) for node in nodes)
        if whole:
            node = self._rng.choice(nodes)
            if strain.late:
                self._say(node, f"[TOTEM ] Token has not been received in {self._world.corosync.token * 750:.0f} ms ")
            if strain.lossy:
                self._lose(node)
        self._complain_later(strain)

    def _lose(self, node: Node) -> None:
        first = self._rng.randint(0x10, 0xFFF0)
        for number in range(self._rng.randint(12, 30)):
            self._say(node, f"[TOTEM ] Retransmit List: {first + number:x} {first + number + 1:x} ")
        others = [other for other in self._world.nodes.values() if other.spec.room != node.spec.room]
        if others:
            link = f"link: host: {self._rng.choice(others).nodeid} link: 0 is"
            self._say(node, f"[KNET  ] {link} down")
            self._world.on(node, self._rng.uniform(1.5, 4.0), partial(self._say, node, f"[KNET  ] {link} up"), "knet")

    def _say(self, node: Node, text: str) -> None:
        self._world.log(node, "corosync", f"  {text}")
