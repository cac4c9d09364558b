"""Loss of a switch by hand: a person takes it off the network, by its power or its uplinks, and puts it back.

Nothing of this is on any node: what guests say to each other, and what only the inventory knows of, is lost too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach
from pytest_pveha.faults.hands import owed, until_done
from pytest_pveha.faults.mains import note_bmc
from pytest_pveha.faults.rooms import carried_elsewhere, seen_to_fail
from pytest_pveha.handles import corosync
from pytest_pveha.handles.hand import Hand
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.people import LOOK, NOBODY

DOWN, UP = "down", "up"


@dataclass(frozen=True, slots=True)
class SwitchPulled:
    """A switch is off the network, taken off by a person who was asked to.

    Blast radius: nothing, where other switches carry the cluster. Undo: a person puts it back.
    """

    kind: ClassVar[str] = "switch-pulled"
    family: ClassVar[str] = "network"
    danger: ClassVar[Danger] = Danger.NETWORK
    undo: ClassVar[str] = (
        "a person gives the switch its power and every cable again, and any other that was taken for it; nobody takes "
        "one off any more, whatever a terminal says"
    )

    switch: str
    name: str
    """What this fault is called: the names of its questions begin so."""
    nodes: tuple[str, ...]
    links: tuple[int, ...]
    """The corosync links that go over it alone."""
    others: tuple[int, ...]
    """The other ones: they carry the cluster meanwhile, and show whether another switch was taken for it."""
    device: bool
    """Whether the quorum device hangs on it."""
    bmcs: tuple[str, ...] = ()
    """The nodes whose BMCs are behind it alone."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset(), costs_membership=False, device=self.device, site_wide=True)

    def summon(self, observer: Observer) -> None:
        """A person stands at the switch, ready; asked before anything else, for that takes a while.

        Raises:
            PreflightRefused: nobody does.
        """
        if self.switch not in observer.site.switch_hands:
            raise PreflightRefused(
                f"nobody can take switch {self.switch} off the network; add switches.{self.switch}.operator"
            )
        text = (
            f"go to switch {self.switch}, find its power and ALL its cables to nodes and other switches, note where "
            "each is plugged in, touch nothing yet, and say when you stand there."
        )
        observer.people.ask(self._step("ready"), text, self._hand(observer))

    def preflight(self, observer: Observer) -> None:
        seen_to_fail(self.switch, self.links, device=self.device)
        carried_elsewhere(observer, self.switch, self.nodes, self.links)
        self._way_in_stays(observer)
        if silent := [name for name in self.bmcs if note_bmc(observer, observer.site.nodes[name]) == "silent"]:
            raise PreflightRefused(
                f"the BMC of {', '.join(silent)}, behind switch {self.switch}, is silent before; nobody is asked to "
                f"touch it"
            )

    def _way_in_stays(self, observer: Observer) -> None:
        """We do not come to the nodes over it: else what happens could be neither seen nor undone."""
        layout, deadline = observer.site.layout, observer.site.clock.deadline
        ring = observer.site.cluster.ring_addresses(deadline(READ))
        gone = layout.on_switch(self.switch)
        inside = {name: ip_network(layout.cidrs[name]) for name in gone if name in layout.cidrs}
        for name in self.nodes:
            try:
                at = observer.site.nodes[name].way(deadline(READ)).at
            except SiteError as error:
                raise PreflightRefused(f"over which switch we reach {name} cannot be told: {error}") from error
            over = [f"link {link}" for link in self.links if ring.get(name, ())[link : link + 1] == (at,)]
            over += [network for network, cidr in inside.items() if ip_address(at) in cidr]
            if over:
                raise PreflightRefused(
                    f"we reach {name} at {at}, which is {over[0]}, over switch {self.switch} alone: without it what "
                    f"happens could be neither seen nor undone; give `nodes.{name}.address` on another network"
                )

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """None: no node can put in a cable."""
        return DeadMan.on_every()

    def inject(self, observer: Observer) -> None:
        """They were asked to take it off, and said so or were seen to have done it; the site was watched meanwhile."""
        hand = self._hand(observer)
        text = (
            f"take switch {self.switch} off the network now, by its power or ALL its cables to nodes and other "
            "switches, and leave it so until you are asked to put it back."
        )
        observer.people.put(self._step("take"), text, hand, hand.answer_within, harmful=True)
        next_look = 0

        def gone(observer: Observer) -> Answer:
            nonlocal next_look
            now = observer.site.clock.now().mono
            if now < next_look:
                return no(f"nobody says that switch {self.switch} is off")
            next_look = now + LOOK
            observer.look()
            return self._off(observer)

        until_done(observer, self._step("take"), hand, f"take switch {self.switch} off the network", gone)

    def took_effect(self, observer: Observer) -> Answer:
        """Corosync calls the links over it disconnected on every node; nobody is connected to a device behind it.

        What the person says is no moment: it was lost after the last sight of it, and before the first without.
        """
        answer = self._off(observer)
        observer.look()
        if answer.verdict == "yes":
            observer.people.settle(self._step("take"))
        return answer

    def heal(self, observer: Observer) -> None:
        """Who took it off was told to put it back; nobody else can."""
        if self._owed(observer) or self._lacking(observer) is not None:
            hand = self._hand(observer)
            text = (
                f"put switch {self.switch} back on the network as it was, its power and EVERY cable, and any other "
                "switch that was taken for it; and leave them so from now on."
            )
            observer.people.remind(self._step("back"), text, hand, hand.answer_within)

    def healed(self, observer: Observer) -> Answer:
        """All corosync links of every node are up, the quorum device is connected, and the BMCs behind it answer.

        Where somebody was asked to take it off and that was not seen, it may be off unseen, or be taken off yet: then
        a person says that it is back.
        """
        observer.look()  # the site is watched meanwhile: it is broken as long as they are on their way
        if (lacking := self._lacking(observer)) is not None:
            return lacking
        if not self._owed(observer):
            return yes(f"what goes over switch {self.switch} is there again, on every node")
        said = observer.people.said(self._step("back"))
        if said is None or said.word != "done":
            return no(f"nobody has said that switch {self.switch} is on the network and stays there")
        return yes(f"all links are up, and {said.user} says that switch {self.switch} is back")

    def _off(self, observer: Observer) -> Answer:
        """Whether the nodes miss what goes over it alone; noted, so that the moment has bounds."""
        clock = observer.site.clock
        asked = clock.now()
        known = {name: self._links(observer, name) for name in self.nodes if self.links}
        up = [
            f"{name} calls link {link} to node {peer} connected"
            for name, links in known.items()
            for link in self.links
            for peer, there in links[link].items()
            if there
        ]
        if not up and self.device:
            up = [
                f"{name} is still connected to the quorum device" for name in self.nodes if self._voted(observer, name)
            ]
        observer.note(f"switch/{self.switch}", UP if up else DOWN, asked, clock.now(), "ssh")
        if up:
            instead = [
                str(link)
                for link in self.others
                if known and not any(any(links[link].values()) for links in known.values())
            ]
            hint = f"; link {', '.join(instead)} is down instead: is it the wrong switch?" if instead else ""
            return no(f"{up[0]}{hint}")
        lost = [f"link {link}" for link in self.links] + ["the quorum device"] * self.device
        bounds = observer.change(f"switch/{self.switch}")
        return yes(f"{', '.join(lost)} of {', '.join(self.nodes)} is down, as without {self.switch}", bounds)

    def _lacking(self, observer: Observer) -> Answer | None:
        """What is not there again, or cannot be seen; None where all is."""
        return next(self._all_lacking(observer), None)

    def _all_lacking(self, observer: Observer) -> Iterator[Answer]:
        for name in self.nodes:
            try:
                links = self._links(observer, name)
                voted = not self.device or self._voted(observer, name)
            except SiteError as error:
                yield cant_tell(str(error))
                continue
            for link in (*self.links, *self.others):
                if down := [str(peer) for peer, there in links[link].items() if not there]:
                    yield no(f"{name} calls link {link} to node {', '.join(down)} disconnected")
            if not voted:
                yield no(f"{name} is not connected to the quorum device")
        for name in self.bmcs:
            if note_bmc(observer, observer.site.nodes[name]) == "silent":
                yield no(f"the BMC of {name} is silent")

    def _links(self, observer: Observer, name: str) -> dict[int, dict[int, bool]]:
        """The node's links, none of ours missing."""
        found = corosync.links(observer.site.nodes[name], observer.site.clock.deadline(READ))
        if missing := {*self.links, *self.others} - found.keys():
            raise SiteError(f"{name} tells of no link {min(missing)}")
        return found

    def _voted(self, observer: Observer, name: str) -> bool:
        state = corosync.device_state(observer.site.nodes[name], observer.site.clock.deadline(READ))
        return state == "Connected"

    def _step(self, word: str) -> str:
        """The question's name: the fault's own and what it is about."""
        return f"{self.name}-{word}"

    def _hand(self, observer: Observer) -> Hand:
        return observer.site.switch_hands.get(self.switch, NOBODY)

    def _owed(self, observer: Observer) -> bool:
        return owed(observer, self._step("take"))
