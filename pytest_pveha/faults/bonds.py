"""Loss of one card of a bond: the others carry on, and nobody notices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.handles import bonds
from pytest_pveha.handles.bonds import Bond, Member
from pytest_pveha.handles.shell import quote
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer


@dataclass(frozen=True, slots=True)
class BondMemberLoss:
    """One member of a node's bond has no link, as with its cable out.

    Blast radius: nothing, where another member carries the bond. Undo: the card is set up, as a reboot does.
    """

    kind: ClassVar[str] = "bond-member-loss"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = "on the node: ip link set dev MEMBER up"

    node: str
    bond: str
    member: str

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False)

    def preflight(self, observer: Observer) -> None:
        try:
            found = self._bond(observer)
            mine = self._member(found)
        except SiteError as error:
            raise PreflightRefused(f"{self.bond} of {self.node} is not touched: {error}") from error
        if not found.watched:
            raise PreflightRefused(
                f"{self.bond} of {self.node} looks for lost links neither by MII nor by ARP (both intervals are 0): "
                f"it would go on sending over {self.member}; set bond-miimon 100"
            )
        if not mine.up:
            raise PreflightRefused(f"{self.member} of {self.bond} on {self.node} has no link already; nothing to lose")
        if not found.partner:
            raise PreflightRefused(
                f"{self.bond} of {self.node} negotiates ({bonds.LACP}) and nobody answers: which of its members would "
                f"carry cannot be told; configure LACP on the switch"
            )
        if not any(found.carries(other) for other in found.members if other.name != self.member):
            raise PreflightRefused(
                f"no other member of {self.bond} on {self.node} carries: without {self.member} the node would be cut "
                f"off; plug the others in"
            )

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """The node sets the card up itself; a reboot does, too."""
        return DeadMan.on_every(Undo(self.node, (quote(*self._set("up")),)))

    def inject(self, observer: Observer) -> None:
        observer.site.nodes[self.node].act(observer.site.clock.deadline(READ), *self._set("down"))

    def took_effect(self, observer: Observer) -> Answer:
        """The bond itself has left that member out, and is up."""
        found = self._bond(observer)
        if self._member(found).up:
            return no(f"{self.bond} of {self.node} still calls {self.member} up")
        observer.look()
        left = ", ".join(other.name for other in found.members if found.carries(other))
        if not found.up:
            return yes(f"{self.bond} of {self.node} is down with {self.member}")
        return yes(f"{self.bond} of {self.node} goes on without {self.member}, over {left or 'nobody'}")

    def heal(self, observer: Observer) -> None:
        observer.site.nodes[self.node].act(observer.site.clock.deadline(READ), *self._set("up"))

    def healed(self, observer: Observer) -> Answer:
        """The bond calls it up, and where links are negotiated it is one of those in use again."""
        try:
            found = self._bond(observer)
        except SiteError as error:
            return cant_tell(str(error))
        mine = self._member(found)
        if not mine.up:
            return no(f"{self.bond} of {self.node} calls {self.member} down")
        if not found.carries(mine):
            return no(f"{self.member} is up and not yet in use: its partner has not agreed")
        return yes(f"{self.member} is a member of {self.bond} of {self.node} again")

    def _bond(self, observer: Observer) -> Bond:
        return bonds.bond(observer.site.nodes[self.node], self.bond, observer.site.clock.deadline(READ))

    def _member(self, found: Bond) -> Member:
        for member in found.members:
            if member.name == self.member:
                return member
        raise SiteError(f"{self.bond} of {self.node} has no member {self.member}")

    def _set(self, state: str) -> tuple[str, ...]:
        return ("ip", "link", "set", "dev", self.member, state)
