"""Where each guest belongs once a failed node is back: what HA's own rules say, and not what the inventory wishes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_pveha.handles.cluster import Rules
from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.ha_homes import homes, places_after, together
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.site import Site
from pytest_pveha.observe import ha
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer


@dataclass(frozen=True, slots=True)
class Homes:
    """Each HA service's homes, as HA is configured; one without any stays where it is."""

    rules: Rules
    nodes: Nodes

    @property
    def of(self) -> dict[str, frozenset[str]]:
        """Where each service is brought back to by itself."""
        return homes(self.rules, self.nodes.names)

    @property
    def together(self) -> tuple[frozenset[str], ...]:
        """Those that are kept on one node."""
        return together(self.rules)

    def returning(self, guests: Guests, home: Node) -> Guests:
        """Those of the guests of that node that HA brings back to it after it was emptied in good order."""
        places = places_after(self.rules, self.nodes.names, home.name)
        return Guests(guest for guest in guests if places.get(guest.sid) == frozenset({home.name}))

    def returned(self, guests: Guests, home: Node) -> Condition:
        """Each guest that left that node in good order is started where HA brings it, once the node is back.

        One that HA leaves where it went may be anywhere, and those that are kept together are on one node.
        """
        places = places_after(self.rules, self.nodes.names, home.name)
        text = f"{len(guests)} guests are back on {home.name}, or where their rules let them stay"
        return self._where(guests, lambda guest: places.get(guest.sid, frozenset(self.nodes.names)), text)

    def reached(self, guests: Guests) -> Condition:
        """Each guest is started on one of its homes, or wherever it is if it has none, and its process was seen there.

        Where nothing brings a guest back to the node that the inventory prefers, the answer says so. Those that are
        kept together are on one node.
        """
        of = self.of
        text = f"{len(guests)} guests are where their rules want them"
        return self._where(guests, lambda guest: of.get(guest.sid) or frozenset(self.nodes.names), text, self._finding)

    def _where(
        self,
        guests: Guests,
        places: Callable[[Guest], frozenset[str]],
        text: str,
        remark: Callable[[Guest, str], str] = lambda guest, saw: "",
    ) -> Condition:
        kept = self.together

        def ask(observer: Observer) -> Answer:
            saw = []
            for guest in guests:
                on = Nodes(node for node in self.nodes if node.name in places(guest))
                answer = ha.started(Guests([guest]), on=on).ask(observer)
                if answer.verdict != "yes":
                    return answer
                saw.append(answer.saw + remark(guest, answer.saw))
            return _parted(observer, [bundle for bundle in kept if bundle & {*guests.sids}]) or yes("; ".join(saw))

        return Condition(text, ask)

    def _finding(self, guest: Guest, saw: str) -> str:
        if self.of.get(guest.sid) or guest.preferred_node in (None, saw.rpartition(" ")[2]):
            return ""
        return f" (no HA rule brings it back to {guest.preferred_node}, which the inventory prefers)"


def _parted(observer: Observer, bundles: list[frozenset[str]]) -> Answer | None:
    """What is wrong with those that are to be on one node; None where nothing is."""
    manager = observer.look().manager
    if manager is None:
        return cant_tell(observer.look().trouble)
    for bundle in bundles:
        on = {sid: manager.services[sid].node for sid in sorted(bundle) if sid in manager.services}
        if len({*on.values()}) > 1:
            return no(f"to be kept on one node: {', '.join(f'{sid} on {node}' for sid, node in on.items())}")
    return None


def homes_of(site: Site) -> Homes:
    """The homes as HA is configured now."""
    return Homes(site.cluster.ha_rules(site.clock.deadline(READ)), site.nodes)
