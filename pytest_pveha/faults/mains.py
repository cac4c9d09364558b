"""Loss of the mains, by the PDU: unlike a power cut by the BMC it takes the BMC too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import Danger, DeadMan, Reach, Undo
from pytest_pveha.faults.power import BMC, TRIES, rescuers
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.pdu import Pdu
from pytest_pveha.handles.shell import one_of, quote
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.observe.reachable import answering

BMC_BOOTS = 180.0
"""Seconds a BMC may take from its power to its first answer (typical one to two minutes)."""


@dataclass(frozen=True, slots=True)
class MainsCut:
    """A node's outlets are switched off at the PDU: no power, and no BMC either.

    Blast radius: the node and its guests. Undo: the outlets on, and the node by its BMC if it stays off.
    """

    kind: ClassVar[str] = "mains-cut"
    family: ClassVar[str] = "power"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = "switch the node's outlets on at the PDU, then the node itself if it stays off"

    node: str

    @property
    def reach(self) -> Reach:
        return Reach(frozenset({self.node}))

    def preflight(self, observer: Observer) -> None:
        node = observer.site.nodes[self.node]
        if node.pdu is None:
            raise PreflightRefused(f"{self.node} has no PDU in the inventory; add nodes.{self.node}.pdu, or operator")
        try:
            state = node.pdu.state()
            on = node.bmc is None or node.bmc.power_state(observer.site.clock.deadline(BMC)).on
        except SiteError as error:
            raise PreflightRefused(f"the mains of {self.node} are not touched: {error}") from error
        if state == "off" or not on:
            raise PreflightRefused(f"{self.node} is without power already; nothing to cut")

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """Two other nodes switch the outlets on, and the node by its BMC if it stays off, where the inventory says how.

        Without that there is none: the supervisor is all there is, and whoever the inventory names.
        """
        site, node = observer.site, observer.site.nodes[self.node]
        way = self._pdu(observer).from_nodes
        if way is None:
            return DeadMan.on_every()
        on, status = way.at(f"{kept}.outlets")
        script, secret = [one_of(*[quote(*on)] * TRIES)], ""
        if node.bmc is not None:
            command = node.bmc.from_a_node(f"{kept}.secret", site.clock.deadline(BMC))
            script += [quote("sleep", f"{BMC_BOOTS:.0f}"), one_of(*[quote(*words) for words in command.on] * TRIES)]
            secret = command.secret
        undos = tuple(
            Undo(
                name,
                tuple(script),
                outlives_reboot=True,
                secret=secret,
                more=(("outlets", way.secret()),),
                checks=((status,),),
            )
            for name in rescuers(site, self.node)
        )
        return DeadMan(undos, min(2, len(undos)))

    def inject(self, observer: Observer) -> None:
        self._pdu(observer).switch("off")

    def took_effect(self, observer: Observer) -> Answer:
        """It is silent on all its addresses, its BMC is silent too, and it left the membership."""
        view = observer.look()  # first: the outlet may have been another node's, and that must be seen at once
        answer = without_mains(observer, observer.site.nodes[self.node], view)
        if answer.verdict != "yes":
            return answer
        # it died at once or not, and before it was missed: between the act and that
        missed = observer.change(f"membership/{self.node}")
        return yes(answer.saw, None if missed is None else (0, missed[1]))

    def heal(self, observer: Observer) -> None:
        self._pdu(observer).switch("on")
        switch_on(observer, observer.site.nodes[self.node])

    def healed(self, observer: Observer) -> Answer:
        return has_mains(observer, observer.site.nodes[self.node])

    def _pdu(self, observer: Observer) -> Pdu:
        pdu = observer.site.nodes[self.node].pdu
        if pdu is None:
            raise SiteError(f"node {self.node} has no PDU in the inventory; add nodes.{self.node}.pdu")
        return pdu


def without_mains(observer: Observer, node: Node, view: View) -> Answer:
    """The node is silent on all its addresses, its BMC is silent too, and it is no member in that view."""
    if there := answering(observer.site.clock, node.addresses):
        return no(f"{node.name} still answers at {', '.join(f'{host}:{port}' for host, port in there)}")
    if view.membership is None:
        return view.unseen()
    if view.membership.online.get(node.name):
        return no(f"{node.name} is silent, and still a member")
    told = note_bmc(observer, node)
    if told not in ("none", "silent"):
        return no(f"the BMC of {node.name} still answers (chassis {told}): another feed, or the wrong outlet or cord?")
    return yes(f"{node.name} is silent, its BMC too ({told}), and it left the membership")


def note_bmc(observer: Observer, node: Node) -> str:
    """What its BMC says of the chassis, ``on`` or ``off``; ``silent``, or ``none`` where it has none. Noted."""
    clock = observer.site.clock
    asked = clock.now()
    try:
        reading = node.bmc.fresh_power_state(clock.deadline(BMC)) if node.bmc is not None else None
    except SiteError:
        reading = None
    told = "none" if node.bmc is None else "silent" if reading is None else "on" if reading.on else "off"
    word = "answers" if reading is not None else told
    observer.note(f"bmc/{node.name}", word, asked, clock.now(), "bmc")
    return told


def switch_on(observer: Observer, node: Node) -> None:
    """The node's BMC, where it has one, has been told to power it on if it says off."""
    clock = observer.site.clock
    if node.bmc is not None and not node.bmc.power_state(clock.deadline(BMC)).on:
        node.bmc.set_power("on", clock.deadline(BMC))


def has_mains(observer: Observer, node: Node) -> Answer:
    """The BMC says on; without one, the node answers."""
    if node.bmc is None:
        there = answering(observer.site.clock, node.addresses)
        return yes(f"{node.name} answers again") if there else no(f"{node.name} answers nowhere yet")
    on = node.bmc.fresh_power_state(observer.site.clock.deadline(BMC)).on
    return yes(f"the BMC of {node.name} says on") if on else no(f"the BMC of {node.name} says off")
