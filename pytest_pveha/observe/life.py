"""Whether a node lives: it answers, it was reset, its guests run again wherever they may."""

from __future__ import annotations

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.guest import Guests
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.watchdog import SOFTWARE
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.reachable import answering

PATIENCE = 0.25
"""Seconds in which a living node's kernel has answered a connect, be it by a refusal."""

HALF_A_PERIOD = 0.5
"""Seconds between two looks within one period of a wait."""

SSH = 22
"""Asked once a second at most: OpenSSH locks out whoever connects more often and says nothing (PerSourcePenalties)."""


def answers(observer: Observer, node: Node) -> bool:
    """Whether anything answers at any of the node's addresses, noted; the first one alone is asked while it does.

    Silence dates from when the last question was sent: what lived then would have answered.
    """
    asked = observer.site.clock.now()
    for place in ([each] for each in node.addresses):
        asked = observer.site.clock.now()
        if answering(observer.site.clock, place, PATIENCE):
            observer.note(f"answering/{node.name}", "yes", asked, observer.site.clock.now(), "tcp")
            return True
    observer.note(f"answering/{node.name}", "no", asked, asked, "tcp")
    return False


def silent(victim: Node) -> Condition:
    """The node answers nowhere."""

    def ask(observer: Observer) -> Answer:
        for _ in range(2):  # twice a second where that is harmless, for the moment is what is measured
            if not answers(observer, victim):
                return yes(f"{victim.name} is silent at all its addresses")
            if victim.addresses[0][1] == SSH:
                break
            observer.site.clock.sleep(HALF_A_PERIOD)
        return no(f"{victim.name} lives on: it answers")

    return Condition(f"node {victim.name} falls silent", ask)


def reset(victim: Node) -> Condition:
    """The node's boot id is another than when the incident began."""

    def ask(observer: Observer) -> Answer:
        if not answers(observer, victim):
            return cant_tell(f"{victim.name} is silent")
        now = observer.boot_id(victim)
        if booted_anew(observer, victim):
            return yes(f"{victim.name} was reset: its boot id is {now}")
        return no(f"{victim.name} was not reset: it answers, with the boot id that it had")

    return Condition(f"node {victim.name} is reset", ask)


def restarted_as_set(victim: Node) -> Condition:
    """The node has restarted by itself after its kernel's panic, if anything there is set to restart it."""

    def ask(observer: Observer) -> Answer:
        panic, watchdog = observer.last(f"kernel.panic/{victim.name}"), observer.last(f"watchdog/{victim.name}")
        if panic is None or watchdog is None:
            return cant_tell(f"what restarts {victim.name} after a panic was not read while it lived")
        if panic == "0" and watchdog == SOFTWARE:
            return yes(
                f"nothing there restarts {victim.name}: kernel.panic is 0, and its watchdog ({watchdog}) died with the "
                f"kernel; it stays dark until it is reset from outside"
            )
        why = f"kernel.panic is {panic}, its watchdog is {watchdog}"
        if answers(observer, victim):
            observer.boot_id(victim)
            if booted_anew(observer, victim):
                return yes(f"{victim.name} restarted by itself ({why})")
        return no(f"{victim.name} is dark, though it is set to restart ({why})")

    return Condition(f"node {victim.name} restarts as it is set to", ask)


def recovered(residents: Guests, victim: Node) -> Condition:
    """Each guest is started elsewhere, or again on its own node once that was reset, and its process was seen there."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        places = {}
        for sid in residents.sids:
            service = view.manager.services.get(sid)
            if service is None:
                return no(f"{sid} is no HA service")
            if service.state != "started":
                return no(f"{sid} is {service.state} on {service.node}")
            if service.node == victim.name and not _is_back(observer, victim):
                return no(f"{sid} is still given to {victim.name}, which was not reset yet")
            places[sid] = service.node
        for name in sorted(set(places.values())):
            running = observer.processes(observer.site.nodes[name]).ages
            missing = sorted(sid for sid, node in places.items() if node == name and sid not in running)
            if missing:
                return no(f"no process of {', '.join(missing)} on {name}")
        _note_life(observer, victim)
        return yes(", ".join(f"{sid} on {node}" for sid, node in sorted(places.items())))

    return Condition(f"{len(residents)} guests of {victim.name} run again, there or elsewhere", ask)


def _is_back(observer: Observer, victim: Node) -> bool:
    if not answers(observer, victim):
        return False
    try:
        observer.boot_id(victim)
    except SiteError:
        return False
    return booted_anew(observer, victim)


def _note_life(observer: Observer, victim: Node) -> None:
    """If the node still lives its old life, that is on record with the moment: its guests may run there too."""
    asked = observer.site.clock.now()
    if _is_back(observer, victim) or observer.last(f"answering/{victim.name}") == "no":
        return
    observer.note(f"lives/{victim.name}", str(asked.mono), asked, observer.site.clock.now(), "ssh")


def booted_anew(observer: Observer, victim: Node) -> bool:
    """Whether its boot id changed since the present incident began."""
    changed = observer.change(f"boot_id/{victim.name}")
    now = observer.site.clock.now()
    return changed is not None and changed[1] >= now.mono - (now.utc - round(observer.since * SECOND))
