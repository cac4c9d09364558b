"""Conditions about a node that goes down or is kept empty in good order."""

from __future__ import annotations

from pytest_pveha.handles.guest import Guests
from pytest_pveha.handles.node import Node
from pytest_pveha.observe import ha
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer

_ASKED = "got shutdown request with shutdown policy"
_CLOSED = "watchdog closed (disabled)"
_MARKED = "node '{node}': state changed from 'unknown' => 'fence'"
_FENCED = "fencing: acknowledged - got agent lock for node '{node}'"
"""What the daemons say (wording: pve-ha-manager 5.2, LRM.pm and Manager.pm; recorded on PVE 9.1.9)."""


def not_fenced(victim: Node) -> Condition:
    """Nobody has fenced the node since the incident began, nor begun to: no CRM marked it.

    Where the lock was given back, fence and recovery fall into one round and no state shows them: the journals do.
    """
    line = _MARKED.format(node=victim.name)

    def ask(observer: Observer) -> Answer:
        found = ha.find_in_journals(observer, observer.site.nodes - {victim}, line)
        if found.verdict == "cant_tell":
            return found
        return no(found.saw) if found.verdict == "yes" else yes(f"no CRM journal says that {victim.name} was fenced")

    return Condition(f"node {victim.name} was not fenced", ask)


def closed_its_watchdog(victim: Node) -> Condition:
    """The node's LRM closed its watchdog on its way down: it left in good order, and was not reset."""

    def ask(observer: Observer) -> Answer:
        lines = victim.journal(observer.since, ("pve-ha-lrm",), observer.site.clock.deadline(READ))
        asked = [number for number, line in enumerate(lines) if _ASKED in line.text]
        if not asked:
            return cant_tell(f"the journal of {victim.name} does not say that its LRM was asked to go")
        if any(_CLOSED in line.text for line in lines[asked[0] :]):
            return yes(f"the LRM of {victim.name}: {_CLOSED}")
        return no(f"the LRM of {victim.name} never closed its watchdog: the node was reset on its way down")

    return Condition(f"node {victim.name} went down without its watchdog", ask)


def empty(node: Node) -> Condition:
    """HA has no started service on the node, none of the inventory's guests runs there, and its LRM is at rest."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        left = sorted(sid for sid, row in view.manager.services.items() if row.node == node.name and row.running)
        running = sorted(observer.processes(node).ages.keys() & {*observer.site.guests.sids})
        if left or running:
            return no(f"still on {node.name}: {', '.join(dict.fromkeys([*left, *running]))}")
        if node.watchdog_has_clients(observer.site.clock.deadline(READ)) and view.manager.master != node.name:
            return no(f"{node.name} is empty, and its watchdog is still held open")
        return yes(f"{node.name} is empty")

    return Condition(f"node {node.name} is empty", ask)


def votes(node: Node) -> Condition:
    """The node, asked itself, is quorate and counts every vote."""

    def ask(observer: Observer) -> Answer:
        seen = node.votes(observer.site.clock.deadline(READ))
        saw = f"{node.name} says: quorate {seen.quorate}, {seen.total} of {seen.expected} votes"
        return yes(saw) if seen.quorate and seen.total == seen.expected else no(saw)

    return Condition(f"node {node.name} votes", ask)


def frozen(guests: Guests, victim: Node) -> Condition:
    """HA has frozen each guest on the node: nobody recovers it, however long the node stays away."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        for sid in guests.sids:
            row = view.manager.services.get(sid)
            if row is None:
                return no(f"{sid} is no HA service")
            if (row.state, row.node) != ("freeze", victim.name):
                return no(f"{sid} is {row.state} on {row.node}")
        return yes(f"{', '.join(guests.sids)} frozen on {victim.name}")

    return Condition(f"{len(guests)} guests are frozen on {victim.name}", ask)


def recovered_or_home(guests: Guests, victim: Node) -> Condition:
    """Where the node was not fenced, no guest left it; where one left it, a CRM took its lock first."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        rows = {sid: view.manager.services.get(sid) for sid in guests.sids}
        away = sorted(sid for sid, row in rows.items() if row is None or row.node != victim.name)
        if not away:
            return yes(f"{', '.join(guests.sids)} never left {victim.name}")
        found = ha.find_in_journals(observer, observer.site.nodes - {victim}, _FENCED.format(node=victim.name))
        return no(f"{', '.join(away)} left {victim.name}, and {found.saw}") if found.verdict == "no" else found

    return Condition(f"guests left {victim.name} after its fence alone", ask)
