"""Who hears whom: addresses, packet filters on the nodes, and what a filter does to a packet.

Filters are tables of chains as nft has them (iptables' chains are one such table). They live in the kernel: a node that
dies has none. Sources: nft(8), iptables(8); ports: corosync.conf(5), mcastport plus link number, and pveproxy(8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND

if TYPE_CHECKING:
    from pytest_pveha.sim.world.model import Node
    from pytest_pveha.sim.world.world import World

COROSYNC_PORT = 5405
API_PORT = 8006
SSH_PORT = 22
QNETD_PORT = 5403
OUTSIDE = "10.99.200.1"
"""Where whoever asks stands, unless a node is on the way."""
_ANY_PORT = 45678
"""Stands for the port a client is given."""
_PACKET_BYTES = 108
"""A corosync heartbeat, with its headers."""
IN, OUT = "input", "output"


@dataclass(frozen=True, slots=True)
class Packet:
    """What a filter looks at."""

    source: str
    destination: str
    protocol: str
    source_port: int
    destination_port: int


@dataclass(eq=False, slots=True)
class Rule:
    """One line of a chain: what it matches, and what becomes of it. An empty match matches everything.

    ``verdict``: drop, accept, reject, ``jump CHAIN``, or empty. ``text`` is the rule as its tool prints it.
    """

    text: str
    verdict: str = ""
    sources: frozenset[str] = frozenset()
    destinations: frozenset[str] = frozenset()
    protocol: str = ""
    source_ports: tuple[tuple[int, int], ...] = ()
    destination_ports: tuple[tuple[int, int], ...] = ()
    counter: bool = False
    packets: float = 0.0
    counted_at: int = 0

    def matches(self, packet: Packet) -> bool:
        """Whether the packet is meant."""
        return (
            (not self.sources or packet.source in self.sources)
            and (not self.destinations or packet.destination in self.destinations)
            and self.protocol in ("", packet.protocol)
            and _within(packet.source_port, self.source_ports)
            and _within(packet.destination_port, self.destination_ports)
        )


@dataclass(slots=True)
class Chain:
    """Rules in order. ``hook`` is input or output for a chain that packets enter by themselves, else empty."""

    name: str
    hook: str = ""
    priority: int = 0
    policy: str = "accept"
    rules: list[Rule] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """A named set of chains, added and deleted as one."""

    name: str
    comment: str = ""
    chains: dict[str, Chain] = field(default_factory=dict)

    def drops(self, hook: str, packet: Packet) -> bool:
        """Whether a packet at that hook ends here."""
        hooked = [chain for chain in self.chains.values() if chain.hook == hook]
        return any((self._verdict(chain, packet, 0) or chain.policy) in ("drop", "reject") for chain in hooked)

    def _verdict(self, chain: Chain, packet: Packet, depth: int) -> str:
        for rule in chain.rules:
            if not rule.matches(packet):
                continue
            verdict = rule.verdict
            if verdict.startswith("jump ") and depth < 16:
                verdict = self._verdict(self.chains[verdict[5:]], packet, depth + 1)
            if verdict == "return":
                return ""
            if verdict in ("drop", "accept", "reject"):
                return verdict
        return ""


class Network:
    """The wires and filters between the nodes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tables: dict[str, dict[str, Table]] = {name: {} for name in world.nodes}

    @staticmethod
    def address(node: Node, link: int = 0) -> str:
        """The node's address on that corosync link, which nothing outside the simulated site reaches."""
        return f"10.99.{link}.{10 + node.nodeid}"

    def management(self, node: Node) -> str:
        """Where requesters find the node: where corosync has several links, on a network of its own."""
        return self.address(node) if self._world.spec.links == 1 else f"10.99.200.{10 + node.nodeid}"

    def addresses(self, node: Node) -> tuple[str, ...]:
        """The node's addresses on all corosync links."""
        return tuple(self.address(node, link) for link in range(self._world.spec.links))

    # filters

    def tables(self, node: Node) -> dict[str, Table]:
        """The node's tables by name, such as ``inet pveha``. Call ``changed`` after changing them."""
        return self._tables[node.name]

    def changed(self, node: Node) -> None:
        """The filters of that node are others from now on."""
        for table in self._tables[node.name].values():
            for chain in table.chains.values():
                for rule in chain.rules:
                    self._start(node, rule)
        self._world.truth("filters", {"node": node.name, "tables": sorted(self._tables[node.name])})
        self._world.corosync.follow()
        self._world.storages.follow()
        self._world.disturb_ceph()
        if not any(self._tables.values()):
            self._world.mishaps.filters_gone(node)

    def forget(self, node: Node) -> None:
        """The node is dead, and its kernel with it."""
        self._tables[node.name].clear()

    def count(self, node: Node, rule: Rule) -> int:
        """How many packets the rule has counted: corosync goes on looking for those it misses."""
        now = self._world.timeline.now
        senders = sum(self._meets(node, rule, other) for other in self._world.nodes.values() if other is not node)
        interval = self._world.corosync.token / 4
        rule.packets += senders * (now - rule.counted_at) / SECOND / interval
        rule.counted_at = now
        return int(rule.packets)

    @staticmethod
    def bytes_of(packets: int) -> int:
        """How large so many counted packets were."""
        return packets * _PACKET_BYTES

    def _start(self, node: Node, rule: Rule) -> None:
        if not rule.counted_at:
            rule.counted_at = self._world.timeline.now
        else:
            self.count(node, rule)

    def _meets(self, node: Node, rule: Rule, other: Node) -> int:
        """How many streams of heartbeats between the two pass that rule."""
        if not (node.corosync_up and other.corosync_up):
            return 0
        found = 0
        for link in range(self._world.spec.links):
            port = COROSYNC_PORT + link
            mine, theirs = self.address(node, link), self.address(other, link)
            going = Packet(mine, theirs, "udp", port, port)
            coming = Packet(theirs, mine, "udp", port, port)
            found += rule.matches(going)
            found += rule.matches(coming) and not self._dropped(other, OUT, coming)
        return found

    def _dropped(self, node: Node, hook: str, packet: Packet) -> bool:
        return any(table.drops(hook, packet) for table in self._tables[node.name].values())

    # who hears whom

    def hears(self, hearer: Node, speaker: Node, protocol: str, source_port: int, port: int, link: int = 0) -> bool:
        """Whether such a packet of the speaker arrives: neither dropped where it leaves nor where it comes in."""
        packet = Packet(self.address(speaker, link), self.address(hearer, link), protocol, source_port, port)
        return not self._dropped(speaker, OUT, packet) and not self._dropped(hearer, IN, packet)

    def link_up(self, one: Node, other: Node, link: int) -> bool:
        """Whether corosync calls that link up: heartbeats arrive, and so do their answers."""
        if not (one.link_up and other.link_up and self.carried(link)):
            return False
        if not self._world.mishaps.rooms_meet(one, other):
            return False
        if not all(self._world.bonds.carries(node, f"corosync{link}") for node in (one, other)):
            return False
        if link and self._world.planted("second-link-on-same-cable") and not self.link_up(one, other, 0):
            return False
        last = next(reversed(self._world.nodes.values()))
        if link and last in (one, other) and self._world.planted("ring-link-dead"):
            return False
        port = COROSYNC_PORT + link
        return self.hears(one, other, "udp", port, port, link) and self.hears(other, one, "udp", port, port, link)

    def carried(self, link: int) -> bool:
        """Whether a switch carries that corosync link."""
        return self._world.switches.carries(f"corosync{link}")

    def linked(self, one: Node, other: Node) -> bool:
        """Whether corosync on the two has a link that is up."""
        return one is other or any(self.link_up(one, other, link) for link in range(self._world.spec.links))

    def echoed(self, node: Node, host: str) -> bool:
        """Whether that machine hears the node's echo requests, and the node its answers."""
        other = self._world.paths.node_at(host)
        if other is None:
            there = host == self._world.spec.qdevice_host and self._world.corosync.device.up
            return there and self._world.switches.carry_device and self._echo_out(node, host)
        link = self.addresses(other).index(host)
        if other is node:
            return True
        if not (other.running and self.carried(link)):
            return False
        return self.hears(other, node, "icmp", 0, 0, link) and self.hears(node, other, "icmp", 0, 0, link)

    def _echo_out(self, node: Node, host: str) -> bool:
        mine = self.address(node)
        going, coming = Packet(mine, host, "icmp", 0, 0), Packet(host, mine, "icmp", 0, 0)
        return not self._dropped(node, OUT, going) and not self._dropped(node, IN, coming)

    def reaches(self, node: Node, host: str, mine: str = "", port: int = QNETD_PORT) -> bool:
        """Whether the node's TCP connections to a machine outside come about: to qnetd, unless another port is said."""
        mine = mine or self.address(node)
        going = Packet(mine, host, "tcp", _ANY_PORT, port)
        coming = Packet(host, mine, "tcp", port, _ANY_PORT)
        there = node.running and (host != self._world.spec.qdevice_host or self._device_there(node))
        return there and not self._dropped(node, OUT, going) and not self._dropped(node, IN, coming)

    def _device_there(self, node: Node) -> bool:
        return self._world.switches.carry_device and self._world.mishaps.lets_through(node)

    def carries(self, client: Node, server: Node, mine: str, theirs: str, port: int) -> bool:
        """Whether a TCP connection from that address of one node to that of another comes about, wires apart."""
        if not (self._tables[client.name] or self._tables[server.name]):
            return True
        going = Packet(mine, theirs, "tcp", _ANY_PORT, port)
        coming = Packet(theirs, mine, "tcp", port, _ANY_PORT)
        return not (
            self._dropped(client, OUT, going)
            or self._dropped(server, IN, going)
            or self._dropped(server, OUT, coming)
            or self._dropped(client, IN, coming)
        )

    @property
    def seen_from(self) -> str:
        """The address from which the nodes see requesters come."""
        through = self._world.spec.way_through
        return self.management(self._world.nodes[through]) if through else OUTSIDE

    def lets_in(self, node: Node, port: int) -> bool:
        """Whether that node's filters let requesters through to that port of it, and its answers out."""
        mine, theirs = self.management(node), self.seen_from
        coming = Packet(theirs, mine, "tcp", _ANY_PORT, port)
        going = Packet(mine, theirs, "tcp", port, _ANY_PORT)
        return not self._dropped(node, IN, coming) and not self._dropped(node, OUT, going)

    def talks(self, client: Node, server: Node, port: int) -> bool:
        """Whether a TCP connection from the one node to that port of the other comes about."""
        return client is server or (
            self.hears(server, client, "tcp", _ANY_PORT, port) and self.hears(client, server, "tcp", port, _ANY_PORT)
        )


def _within(port: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return not ranges or any(low <= port <= high for low, high in ranges)
