"""Where each guest belongs once a failed node is back: what HA's own rules say, and not what the inventory wishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.ha_homes import homes
from pytest_pveha.handles.site import Site
from pytest_pveha.observe import ha
from pytest_pveha.observe.answer import Answer, Condition, yes
from pytest_pveha.observe.observer import READ, Observer


@dataclass(frozen=True, slots=True)
class Homes:
    """Each HA service's homes; one without any stays where it is."""

    of: Mapping[str, frozenset[str]]

    def reached(self, guests: Guests) -> Condition:
        """Each guest is started on one of its homes, or wherever it is if it has none, and its process was seen there.

        Where nothing brings a guest back to the node that the inventory prefers, the answer says so.
        """

        def ask(observer: Observer) -> Answer:
            saw = []
            for guest in guests:
                answer = ha.started(Guests([guest]), on=self._nodes(guest, observer.site.nodes)).ask(observer)
                if answer.verdict != "yes":
                    return answer
                saw.append(answer.saw + self._finding(guest, answer.saw))
            return yes("; ".join(saw))

        return Condition(f"{len(guests)} guests are where their rules want them", ask)

    def _nodes(self, guest: Guest, nodes: Nodes) -> Nodes:
        own = self.of.get(guest.sid)
        return Nodes(node for node in nodes if node.name in own) if own else nodes

    def _finding(self, guest: Guest, saw: str) -> str:
        if self.of.get(guest.sid) or guest.preferred_node in (None, saw.rpartition(" ")[2]):
            return ""
        return f" (no HA rule brings it back to {guest.preferred_node}, which the inventory prefers)"


def homes_of(site: Site) -> Homes:
    """The homes as HA is configured now."""
    return Homes(homes(site.cluster.ha_rules(site.clock.deadline(READ)), site.nodes.names))
