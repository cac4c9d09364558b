"""Loss of the mains by hand: a person pulls the node's power cords, and puts them in again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_pveha.errors import HarmSeen, PreflightRefused, WrongMachine
from pytest_pveha.faults.fault import Danger, DeadMan, Reach
from pytest_pveha.faults.hands import owed, until_done
from pytest_pveha.faults.mains import has_mains, note_bmc, switch_on, without_mains
from pytest_pveha.handles.hand import Hand
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, no, yes
from pytest_pveha.observe.life import answers
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.observe.people import LOOK, NOBODY
from pytest_pveha.observe.reachable import answering


@dataclass(frozen=True, slots=True)
class CordPulled:
    """All power cords of a node are out, pulled by a person who was asked to: no power, and no BMC either.

    Blast radius: the node and its guests. Undo: a person puts them in again.
    """

    kind: ClassVar[str] = "cord-pulled"
    family: ClassVar[str] = "power"
    danger: ClassVar[Danger] = Danger.POWER
    undo: ClassVar[str] = (
        "a person puts all power cords of the node in again, and of any other that has no power, and switches the node "
        "on if it stays off; nobody pulls one any more, whatever a terminal says"
    )

    node: str
    name: str
    """What this fault is called: the names of its questions begin so."""
    silent: tuple[str, ...] = ()
    """Nodes that were silent before it, such as by another fault around it: no hand of ours."""

    @property
    def reach(self) -> Reach:
        return Reach(frozenset({self.node}))

    def summon(self, observer: Observer) -> None:
        """A person stands at the rack, ready; asked before anything else, for that takes a while.

        Raises:
            PreflightRefused: nobody does.
        """
        node = observer.site.nodes[self.node]
        if node.operator is None:
            raise PreflightRefused(f"nobody can pull the cord of {self.node}; add nodes.{self.node}.operator")
        place = "" if node.room == node.name else f" (room: {node.room})"
        text = f"go to {self.node}{place}, find ALL its power cords, touch nothing yet, and say when you stand there."
        observer.people.ask(self._step("ready"), text, node.operator)

    def preflight(self, observer: Observer) -> None:
        node = observer.site.nodes[self.node]
        if not answers(observer, node):
            raise PreflightRefused(f"{self.node} is silent already, so nobody is asked to pull its cord")
        told = note_bmc(observer, node)
        if told not in ("on", "none"):
            raise PreflightRefused(
                f"the BMC of {self.node} is to die with it, and is {told} before; nobody is asked to pull its cord"
            )

    def dead_man(self, observer: Observer, kept: str) -> DeadMan:
        """None: no node can put in a cord."""
        return DeadMan.on_every()

    def inject(self, observer: Observer) -> None:
        """They were asked to pull, and said so or were seen to have done it; the site was watched meanwhile."""
        hand = self._hand(observer)
        text = f"pull ALL power cords of {self.node} now, and leave them out until you are asked to put them in."
        observer.people.put(self._step("pull"), text, hand, hand.answer_within, harmful=True)
        looked = observer.site.clock.now().mono

        def dead(observer: Observer) -> Answer:
            nonlocal looked
            node, now = observer.site.nodes[self.node], observer.site.clock.now().mono
            lives = answers(observer, node)
            if lives and now - looked < LOOK:
                return no(f"{self.node} lives, and nobody says that its cord is pulled")
            looked = now
            view = self._look(observer)
            return no(f"{self.node} lives") if lives else without_mains(observer, node, view)

        until_done(observer, self._step("pull"), hand, f"pull the cord of {self.node}", dead)

    def took_effect(self, observer: Observer) -> Answer:
        """It is silent on all its addresses, its BMC is silent too, and it left the membership.

        What the person says is no moment: it died after its last sign of life, and before it was missed.
        """
        node = observer.site.nodes[self.node]
        answers(observer, node)
        answer = without_mains(observer, node, self._look(observer))
        if answer.verdict == "no":
            return no(f"{answer.saw}; is one of its cords still in?")
        if answer.verdict != "yes":
            return answer
        observer.people.settle(self._step("pull"))
        silence, missed = observer.change(f"answering/{self.node}"), observer.change(f"membership/{self.node}")
        if silence is None or missed is None:
            return answer
        return yes(answer.saw, (silence[0], max(silence[1], missed[1])))

    def heal(self, observer: Observer) -> None:
        """People are told what to put in again; a node that has power and stays off is switched on by its BMC."""
        node, hand = observer.site.nodes[self.node], self._hand(observer)
        if owed(observer, self._step("pull")) or not answering(observer.site.clock, node.addresses):
            text = f"put ALL power cords of {self.node} in again, and leave them in from now on."
            observer.people.remind(self._step("plug"), text, hand, hand.answer_within)
        for other in self._others_without_power(observer):
            dark = f"{other.name} is silent{', with its BMC' if other.bmc else ''}, and was not to be"
            text = f"{dark}: put ALL its power cords in again."
            at = other.operator or hand
            observer.people.remind(self._step(f"plug-{other.name.lower()}"), text, at, at.answer_within)
        switch_on(observer, node)

    def healed(self, observer: Observer) -> Answer:
        """The BMC says on; without one, the node answers. No other node is without power.

        Where somebody was asked to pull and the node was not seen to die, a cord may be out that nobody can see, or
        be pulled yet: then a person says that all are in.
        """
        observer.people.hear()
        if dark := self._others_without_power(observer):
            return no(
                f"{', '.join(other.name for other in dark)} has no power either: its cords are to be put in again"
            )
        answer = has_mains(observer, observer.site.nodes[self.node])
        if answer.verdict != "yes" or not owed(observer, self._step("pull")):
            return answer
        said = observer.people.said(self._step("plug"))
        if said is None or said.word != "done":
            return no(f"{answer.saw}, and nobody has said that all its power cords are in and stay in")
        return yes(f"{answer.saw}, and {said.user} says that all its power cords are in")

    def _step(self, word: str) -> str:
        """The question's name: the fault's own and what it is about."""
        return f"{self.name}-{word}"

    def _hand(self, observer: Observer) -> Hand:
        return observer.site.nodes[self.node].operator or NOBODY

    def _look(self, observer: Observer) -> View:
        """A look at the cluster; harm that a hand did to another machine is told as that."""
        try:
            return observer.look()
        except HarmSeen as harm:
            if not answering(observer.site.clock, observer.site.nodes[self.node].addresses):
                raise
            wrong = frozenset(other.name for other in self._others_without_power(observer))
            if not wrong:
                raise
            raise WrongMachine(
                f"{', '.join(sorted(wrong))} lost its power when the cord of {self.node} was to be pulled, and "
                f"{self.node} lives: the wrong machine's cord, so nothing is proven. Label the cords",
                wrong,
            ) from harm

    def _others_without_power(self, observer: Observer) -> list[Node]:
        """Other nodes that are silent with their BMCs, as no crash leaves them."""
        others = [node for node in observer.site.nodes if node.name not in (self.node, *self.silent)]
        silent = [node for node in others if not answering(observer.site.clock, node.addresses)]
        return [node for node in silent if note_bmc(observer, node) in ("silent", "none")]
