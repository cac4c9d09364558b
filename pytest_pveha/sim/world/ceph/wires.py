"""Ceph's two networks: whose OSDs hear each other, and who reaches a mon.

Addresses: 10.98.0.N on the public network, 10.98.1.N on the cluster's, N being 10 and the node's id. Filters on the
nodes drop packets as on the other networks. Ports: mons 3300 and 6789, OSDs 6800 to 7568 (Ceph's network reference).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.sim.world.ceph.model import Mon

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

PUBLIC, CLUSTER = "public", "cluster"
MON_PORTS = (3300, 6789)
OSD_PORT = 6802
OUTSIDE_MON = "10.98.0.9"
NETWORKS = {PUBLIC: "10.98.0.0/24", CLUSTER: "10.98.1.0/24"}
CARDS = {PUBLIC: "ceph0", CLUSTER: "ceph1"}
"""The nodes' network cards."""


class Wires:
    """The networks of one cluster, as its daemons need them."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self._world = ceph.world
        self._down: set[tuple[str, str]] = set()
        self._heard: dict[tuple[str, str], bool] = {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The networks there are."""
        return (PUBLIC,) if self._ceph.spec.one_network else (PUBLIC, CLUSTER)

    def address(self, host: str, kind: str) -> str:
        """The node's address there."""
        part = 1 if kind == CLUSTER and not self._ceph.spec.one_network else 0
        return f"10.98.{part}.{10 + self._world.nodes[host].nodeid}"

    def up(self, host: str, kind: str) -> bool:
        """Whether that node's card on that network is up."""
        return (host, kind) not in self._down

    def set_link(self, host: str, kind: str, up: bool) -> None:
        """The node's card on that network is up, or down."""
        (self._down.discard if up else self._down.add)((host, kind))
        self._world.truth("ceph_link", {"node": host, "network": kind, "up": up})
        self._ceph.disturbed()

    def filtered(self) -> bool:
        """Whether anything at all keeps nodes apart."""
        return (
            bool(self._down)
            or self._world.switches.any_down
            or any(self._world.network.tables(node) for node in self._world.nodes.values())
        )

    def boot(self, host: str) -> None:
        """The node has booted: its cards are up, but for one whose cable is out."""
        if not (self._world.planted("ceph-cluster-network-dead") and host == max(self._ceph.crush.hosts())):
            self._down = {link for link in self._down if link[0] != host}

    def forget(self) -> None:
        """Somebody died, or filters are others: who hears whom is found out anew."""
        self._heard.clear()

    def hears(self, one: str, other: str) -> bool:
        """Whether the OSDs on two nodes hear each other, on every network."""
        if one == other:
            return True
        key = (one, other) if one < other else (other, one)
        if key not in self._heard:
            self._heard[key] = all(self.connects(*key, kind, OSD_PORT) for kind in self.kinds)
        return self._heard[key]

    def connects(self, one: str, other: str, kind: str, port: int) -> bool:
        """Whether each of the two nodes reaches that port of the other one, on that network."""
        here, there = self._world.nodes[one], self._world.nodes[other]
        if not (here.running and there.running and self.up(one, kind) and self.up(other, kind)):
            return False
        if not self._world.switches.carries(f"ceph_{kind}"):
            return False
        network, mine, theirs = self._world.network, self.address(one, kind), self.address(other, kind)
        return network.carries(here, there, mine, theirs, port) and network.carries(there, here, theirs, mine, port)

    def holder(self, address: str) -> str:
        """The node that has that address on one of them; empty where none has."""
        names = self._world.nodes
        return next((name for name in names for kind in self.kinds if self.address(name, kind) == address), "")

    def echoed(self, one: str, address: str) -> bool:
        """Whether the node that has that address hears that one's echo requests, and is heard."""
        other = self.holder(address)
        kind = next(kind for kind in self.kinds if self.address(other, kind) == address)
        return one == other or self.connects(one, other, kind, OSD_PORT)

    def reaches_mon(self, host: str, mon: Mon) -> bool:
        """Whether whoever is on that node reaches that mon."""
        if mon.node == host:
            return self._world.nodes[host].running
        if mon.node:
            return self.connects(host, mon.node, PUBLIC, MON_PORTS[0])
        node = self._world.nodes[host]
        reached = self._world.network.reaches(node, OUTSIDE_MON, self.address(host, PUBLIC), MON_PORTS[0])
        return self.up(host, PUBLIC) and reached

    def mons_talk(self, one: Mon, other: Mon) -> bool:
        """Whether two mons hear each other."""
        return self.reaches_mon(one.node, other) if one.node else self.reaches_mon(other.node, one)
