"""Where everything stands and what it hangs on: what the inventory tells and no cluster knows of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytest_pveha.inventory.rooms import third_room

DEVICE = "quorum device"
"""What the quorum device's machine is called among the ends of a way."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Rooms, switches and power feeds by name."""

    rooms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Room → its nodes, in the inventory's order; nodes that name no room are in none."""
    feeds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Node → the power feeds it hangs on."""
    ups: Mapping[str, str] = field(default_factory=dict)
    """Feed → what keeps it alive, where the inventory says."""
    switches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Network → the switches that it goes over; one of them is enough."""
    cidrs: Mapping[str, str] = field(default_factory=dict)
    """Network → its addresses, where the inventory says them."""
    device: str = ""
    """The address of the quorum device's machine; empty where there is none."""
    device_room: str = ""
    device_switch: str = ""
    ceph_tiebreaker: str = ""
    """The name of Ceph's tiebreaker mon, where Ceph is stretched."""
    ceph_room: str = ""

    def room_of(self, node: str) -> str:
        """The room that node stands in; empty where it names none."""
        return next((room for room, nodes in self.rooms.items() if node in nodes), "")

    @property
    def arbiter_room(self) -> str:
        """Where corosync's tiebreaker stands, a quorum device or a node; empty where there is none, or nobody says."""
        return self.device_room if self.device else third_room(self.rooms)

    def on_switch(self, switch: str) -> tuple[str, ...]:
        """The networks that go over that switch alone."""
        return tuple(network for network, over in self.switches.items() if over == (switch,))

    def only_feed(self, feed: str) -> tuple[str, ...]:
        """The nodes that have no other power feed than that."""
        return tuple(node for node, feeds in self.feeds.items() if feeds == (feed,))


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways between the rooms of a stretched site: each from one node to another machine."""

    between: tuple[tuple[str, str], ...]
    """From each node to each node of another room."""
    to_device: tuple[tuple[str, str], ...]
    """From each node to the quorum device's machine; none where it has none."""

    @property
    def only_between(self) -> Ways:
        """Those between nodes."""
        return Ways(self.between, ())

    @property
    def only_to_device(self) -> Ways:
        """Those to the quorum device's machine."""
        return Ways((), self.to_device)

    @classmethod
    def of(cls, layout: Layout) -> Ways:
        """All of them."""
        placed = [(node, room) for room, nodes in layout.rooms.items() for node in nodes]
        return cls(
            tuple((one, other) for one, here in placed for other, there in placed if here != there),
            tuple((node, DEVICE) for node, _ in placed) if layout.device else (),
        )
