"""Conditions about one guest: where it runs, whether it was started again, whether nobody touched it."""

from __future__ import annotations

from pytest_pveha.clock import SECOND
from pytest_pveha.handles.guest import Guest, Guests, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe import ha
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, never, no, yes
from pytest_pveha.observe.observer import Observer


def runs_on(guest: Guest, node: Node) -> Condition:
    """HA calls the guest started there, and its process was seen there.

    One that could not be moved is started where it was, and HA does not try again: its LRM there says why.
    """
    started, why = ha.started(Guests([guest]), Nodes([node])), ha.Refusals()

    def ask(observer: Observer) -> Answer:
        answer = started.ask(observer)
        state, _, at = (observer.last(f"service/{guest.sid}") or "").partition("@")
        if answer.verdict != "no" or state != "started" or at == node.name or at not in observer.site.nodes.names:
            return answer
        reason = why.of(observer, observer.site.nodes[at], [guest.sid])
        return never(answer.saw + reason) if reason else no(answer.saw)

    return Condition(f"{guest.sid} runs on {node.name}", ask)


def answers(guest: Guest) -> Condition:
    """The guest has answered every probe for ten seconds."""
    return Condition(f"{guest.sid} answers", ha.answering(Guests([guest])).ask)


def started_again(guest: Guest, on: Node) -> Condition:
    """HA started the guest again on that node: a process younger than the incident runs there."""

    def ask(observer: Observer) -> Answer:
        placed = runs_on(guest, on).ask(observer)
        if placed.verdict != "yes":
            return placed
        return _age(observer, guest, on, younger=True)

    return Condition(f"{guest.sid} is started again on {on.name}", ask)


def untouched(guest: Guest, on: Node) -> Condition:
    """HA did nothing about the guest: it is started there, by a process older than the incident."""

    def ask(observer: Observer) -> Answer:
        placed = runs_on(guest, on).ask(observer)
        if placed.verdict != "yes":
            return placed
        return _age(observer, guest, on, younger=False)

    return Condition(f"HA leaves {guest.sid} alone on {on.name}", ask)


def _age(observer: Observer, guest: Guest, node: Node, *, younger: bool) -> Answer:
    """By the process's own age, which is told in whole seconds."""
    found = observer.processes(node)
    age = found.ages.get(guest.sid)
    if age is None:
        return cant_tell(f"the process of {guest.sid} has just gone from {node.name}")
    incident = found.answered_at.utc / SECOND - observer.since
    said = f"its process on {node.name} is {age} s old, the incident {incident:.0f} s"
    return yes(said) if (age <= incident) is younger else no(said)
