"""Whom the two arbiters of a cut let go on: corosync, by its quorum device, and Ceph, by its tiebreaker mon.

Where they choose different sides, guests run where they have no data until the other side has reset itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytest_pveha.handles import corosync
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.status import serves
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.ceph_map import ASK
from pytest_pveha.observe.heard import Heard
from pytest_pveha.observe.observer import READ, Observer, View
from pytest_pveha.observe.turns import EVERY, Turns

PATIENCE = 4.0
"""Seconds for its answer: a dead node must not hold up the others."""

OUT_OF_SCOPE = "the inventory has no Ceph"


class MonWitness:
    """Asks the mon on each of these nodes itself, over SSH, whether it is in quorum, whenever the run looks."""

    def __init__(self, observer: Observer, nodes: Nodes) -> None:
        self._observer = observer
        self._clock = observer.site.clock
        self._heard = Heard(observer, EVERY)
        observer.afresh("mon@")
        self._turns = Turns(observer, nodes, self._heard, "mon:")

    def __call__(self, view: View) -> None:
        """The mons whose turn it is have been asked."""
        del view
        self._turns.take(self._ask)

    def stop(self) -> None:
        """When each was heard is in the journal."""
        self._heard.stop()

    def _ask(self, node: Node) -> None:
        asked = self._clock.now()
        inside = shell.mon_in_quorum(node, self._clock.deadline(PATIENCE))
        self._observer.note(f"mon@{node.name}", "in quorum" if inside else "out", asked, self._clock.now(), "ssh")


def agree(one: Nodes, other: Nodes, mons: Nodes) -> Condition:
    """The mons of the side that is quorate are in quorum, and none of the other side's; yes where there is no Ceph."""

    def ask(observer: Observer) -> Answer:
        if not mons:
            return yes(OUT_OF_SCOPE)
        observer.look()
        deadline = observer.site.clock.deadline
        quorate = _those([*one, *other], lambda node: corosync.quorum(node, deadline(READ)).quorate)
        inside = _those(mons, lambda node: shell.mon_in_quorum(node, deadline(READ)))
        told = f"corosync: {_list(quorate)} quorate; Ceph: the mons of {_list(inside)} in quorum"
        if not (quorate == set(one.names) or quorate == set(other.names)):
            return no(told)
        return yes(told) if inside and inside <= quorate else no(told)

    return Condition("corosync and Ceph go on in one and the same room", ask)


def data_served(nodes: Nodes, mons: Nodes) -> Condition:
    """Every placement group is active, and served by OSDs of one side alone, that whose mons are in quorum."""

    def ask(observer: Observer) -> Answer:
        if not mons:
            return yes(OUT_OF_SCOPE)
        observer.look()
        teller = next((node for node in mons if observer.last(f"mon@{node.name}") == "in quorum"), None)
        if teller is None:
            return cant_tell("no mon was seen in quorum")
        deadline = observer.site.clock.deadline
        places = shell.places(teller, deadline(ASK))
        pgs = shell.pgs(teller, deadline(ASK))
        if not pgs:
            return cant_tell(f"{teller.name} told of no placement group")
        if idle := [pg.id for pg in pgs if not serves(pg.state)]:
            return no(f"{len(idle)} of {len(pgs)} placement groups are not active")
        hosts = {places[osd].host for pg in pgs for osd in pg.acting if osd in places}
        rooms = {node.room for node in nodes if node.name in hosts}
        told = f"{len(pgs)} placement groups are active, on OSDs of {_list(hosts)}"
        return yes(told) if rooms == {teller.room} else no(told)

    return Condition("Ceph serves all data from one room", ask)


def undisturbed(mons: Nodes) -> Condition:
    """Every mon is in quorum, and every placement group is active; yes where there is no Ceph."""

    def ask(observer: Observer) -> Answer:
        if not mons:
            return yes(OUT_OF_SCOPE)
        observer.look()
        deadline = observer.site.clock.deadline
        inside = _those(mons, lambda node: shell.mon_in_quorum(node, deadline(READ)))
        if outside := {*mons.names} - inside:
            return no(f"the mons of {_list(outside)} are not in quorum")
        teller = next(iter(mons))
        pgs = shell.pgs(teller, deadline(ASK))
        if not pgs:
            return cant_tell(f"{teller.name} told of no placement group")
        if idle := [pg.id for pg in pgs if not serves(pg.state)]:
            return no(f"{len(idle)} of {len(pgs)} placement groups are not active")
        return yes(f"{len(pgs)} placement groups are active, and the mons of {_list(inside)} in quorum")

    return Condition("Ceph serves all data, and all its mons agree", ask)


def _those(nodes: Iterable[Node], ask: Callable[[Node], bool]) -> set[str]:
    return {node.name for node in nodes if ask(node)}


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"
