"""Bonds of network cards: what still passes over them when a member has no link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.sim.spec import BondSpec
from pytest_pveha.sim.world.model import Node

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World


class Bonds:
    """The bonds of one world; every node has the same."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._down: set[tuple[str, str]] = set()

    @property
    def specs(self) -> tuple[BondSpec, ...]:
        """All of them."""
        return self._world.spec.bonds

    def members(self) -> frozenset[str]:
        """Every card that is in one."""
        return frozenset(name for bond in self.specs for name in bond.members)

    def up(self, node: Node, member: str) -> bool:
        """Whether that card has a link."""
        return (node.name, member) not in self._down

    def set_link(self, node: Node, member: str, *, up: bool) -> None:
        """Somebody set that card up, or down."""
        (self._down.discard if up else self._down.add)((node.name, member))
        self._world.truth("bond_member", {"node": node.name, "member": member, "up": up})
        self._world.corosync.follow()

    def boot(self, node: Node) -> None:
        """The node's system sets up what its configuration has."""
        self._down = {each for each in self._down if each[0] != node.name}

    def slow(self, bond: BondSpec) -> bool:
        """Whether its partner is asked to speak every 30 s only."""
        return bond.lacp_rate == "slow" or self._world.planted("lacp-slow")

    def carries(self, node: Node, network: str) -> bool:
        """Whether that network, if it goes over a bond of the node, has a card that is any good."""
        return all(
            any(self.up(node, member) and self._any_good(bond, member) for member in bond.members)
            for bond in self.specs
            if network in bond.carries
        )

    def _any_good(self, bond: BondSpec, member: str) -> bool:
        return not (self._world.planted("bond-member-in-wrong-vlan") and member == bond.members[-1])
