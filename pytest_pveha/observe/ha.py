"""Conditions about the HA manager: a node fenced, guests started elsewhere, a node back."""

from __future__ import annotations

import re
from collections.abc import Collection

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, each_of, no, yes
from pytest_pveha.observe.observer import READ, Observer

REREAD = 30 * SECOND
"""Nanoseconds after which a journal is read again for why a guest does not start: its LRM tries every ten seconds."""

ASTRAY = 5.0
"""Seconds a node's clock may differ before its journal, read by our time, proves nothing by what it lacks."""

_TASK_ENDED = re.compile(r"end task UPID:[^ ]*:(?:qmstart|vzstart|qmigrate|vzmigrate):(\d+):[^ ]*: (.*)$")
"""The end of a start or a move, as the LRM's journal has it (wording: pve-common RESTEnvironment.pm, recorded on PVE
9.1.9; on 9.2 a move that failed ends with ``migration aborted``)."""


def membership_lost(victim: Node) -> Condition:
    """The others no longer count the node among their members, and are quorate without it."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.membership is None:
            return view.unseen()
        if victim.name not in view.membership.online:  # a member that is lost stays listed, as offline
            return cant_tell(f"{view.membership.asked.endpoint} does not list {victim.name} at all")
        if view.membership.online[victim.name]:
            return no(f"{victim.name} is still a member")
        if not view.membership.quorate:
            return no(f"{victim.name} left, and the others are not quorate")
        return yes(f"{victim.name} is offline, the others are quorate")

    return Condition(f"the cluster notices that {victim.name} is gone", ask)


def fenced(victim: Node) -> Condition:
    """The HA manager acknowledged the node's fence: it holds the dead node's agent lock, and its log says so.

    There is no fence action in Proxmox: the lock grab *is* the acknowledgement (measured on PVE 9.1.9). It may fall
    into one round with ``fence`` and ``recovery``, so the state alone cannot be waited for.
    """
    line = f"fencing: acknowledged - got agent lock for node '{victim.name}'"

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        left = sorted(sid for sid, service in view.manager.services.items() if service.node == victim.name)
        if left:
            states = ", ".join(f"{sid} {view.manager.services[sid].state}" for sid in left)
            return no(f"node {victim.name} is {view.manager.nodes.get(victim.name)}; still there: {states}")
        others = observer.site.nodes - {victim}
        found = find_in_journals(observer, others, line)
        if found.verdict == "no":
            return no(f"its services were moved, but no CRM journal says {line!r}: recovered without a fence")
        return found

    return Condition(f"node {victim.name} is fenced", ask)


def all_fenced(victims: Nodes) -> Condition:
    """The HA manager acknowledged the fence of each of these nodes."""
    return each_of(victims, fenced, f"{', '.join(victims.names)} fenced")


def at_rest(nodes: Nodes) -> Condition:
    """The LRM of none of these nodes holds a lock or a watchdog: it lets go ten minutes after its last guest."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        manager = view.manager
        if manager is None:
            return view.unseen()
        missing = [name for name in nodes.names if name not in manager.lrms]
        if missing:
            return cant_tell(f"nobody tells what the LRM of {', '.join(missing)} does")
        guarding = [name for name in nodes.names if manager.lrms[name].guarded]
        if guarding:
            return no(f"the LRM of {', '.join(guarding)} is {manager.lrms[guarding[0]].state}")
        return yes(f"the LRM of {', '.join(nodes.names)} is idle")

    return Condition(f"{', '.join(nodes.names)} guards no guest", ask)


def led_by(nodes: Nodes) -> Condition:
    """One of these nodes is CRM master, and has written since this was first asked."""
    first: list[float] = []

    def ask(observer: Observer) -> Answer:
        first.append(observer.site.clock.now().utc / SECOND)
        view = observer.look()
        manager = view.manager
        if manager is None:
            return view.unseen()
        if manager.master not in nodes.names:
            return no(f"the CRM master is {manager.master or 'nobody'}")
        if manager.timestamp <= first[0]:
            return no(f"{manager.master} is called CRM master, and has not written yet")
        return yes(f"{manager.master} is CRM master")

    return Condition(f"one of {', '.join(nodes.names)} leads HA", ask)


def all_online(nodes: Nodes) -> Condition:
    """Each of these nodes is a quorate member again, and its LRM works."""
    return each_of(nodes, online, f"{', '.join(nodes.names)} back")


def guarding(nodes: Collection[str], since: float) -> Condition:
    """Each of these nodes' LRM holds its lock and has written since then (epoch s): it has fed its watchdog again.

    Without quorum it can do neither, and its watchdog counts on (pve-ha-manager 5.2, LRM.pm: lock, feed, status).
    """

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        lrms = view.manager.lrms
        late = [
            name
            for name in sorted(nodes)
            if (lrm := lrms.get(name)) is None or not lrm.guarded or lrm.timestamp <= since
        ]
        if late:
            return no(f"the LRM of {', '.join(late)} has not fed its watchdog again")
        return yes(f"every LRM that guarded its node does so again ({', '.join(sorted(nodes)) or 'none did'})")

    return Condition("every watchdog is fed again", ask)


def find_in_journals(observer: Observer, nodes: Nodes, text: str) -> Answer:
    """Whether a CRM journal of these nodes has the line since the incident began; an unreadable one decides nothing."""
    trouble = []
    for node in nodes:
        try:
            lines = node.journal(observer.since, ("pve-ha-crm",), observer.site.clock.deadline(READ))
            if any(text in line.text for line in lines):
                return yes(f"{node.name}: {text}")
            trouble += _clock_trouble(observer, node)
        except SiteError as error:
            trouble.append(str(error))
    if trouble:
        return cant_tell("; ".join(trouble))
    return no(f"no journal says {text!r}")


def _clock_trouble(observer: Observer, node: Node) -> list[str]:
    """Why the node's journal cannot be asked by our time: its clock was set meanwhile, or was wrong when it booted."""
    offset = node.clock_offset(observer.site.clock.deadline(READ))
    if abs(offset.offset) - offset.error <= ASTRAY:
        return []
    return [
        f"the clock of {node.name} is {offset.offset:+.0f} s off ours, so its journal was not read where it should be"
    ]


class Refusals:
    """Why guests do not start, or do not move, by the node's own journal; read again only after a while."""

    def __init__(self) -> None:
        self._read_at: dict[str, int] = {}
        self._found: dict[str, str] = {}

    def of(self, observer: Observer, node: Node, sids: list[str]) -> str:
        """What the LRM's tasks there ended with, for the end of a sentence; empty if they did not fail."""
        now = observer.site.clock.now().mono
        if now - self._read_at.get(node.name, -REREAD) >= REREAD:
            self._read_at[node.name] = now
            try:
                lines = node.journal(observer.since, ("pve-ha-lrm",), observer.site.clock.deadline(READ))
            except SiteError:
                return ""
            for task, status in (match.groups() for line in lines if (match := _TASK_ENDED.search(line.text))):
                self._found[task] = status
        numbers = (sid.partition(":")[2] for sid in sids)
        failed = [self._found[number] for number in numbers if self._found.get(number, "OK") != "OK"]
        return f"; its last try there: {', '.join(dict.fromkeys(failed))}" if failed else ""


def started(guests: Guests, on: Nodes) -> Condition:
    """Each guest is started by HA on one of these nodes, and its process was seen there."""
    why = Refusals()

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        places = {}
        for sid in guests.sids:
            service = view.manager.services.get(sid)
            if service is None:
                return no(f"{sid} is no HA service")
            if service.state != "started" or service.node not in on:
                return no(f"{sid} is {service.state} on {service.node}")
            places[sid] = service.node
        for name in sorted(set(places.values())):
            running = observer.processes(on[name]).ages
            missing = sorted(sid for sid, node in places.items() if node == name and sid not in running)
            if missing:
                return no(f"no process of {', '.join(missing)} on {name}{why.of(observer, on[name], missing)}")
        return yes(", ".join(f"{sid} on {node}" for sid, node in sorted(places.items())))

    return Condition(f"{len(guests)} guests are started on {', '.join(on.names)}", ask)


def online(node: Node) -> Condition:
    """The node is a quorate member again, HA calls it online, and its LRM writes fresh stamps."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.membership is None:
            return view.unseen()
        if not view.membership.online.get(node.name):
            return no(f"{node.name} is no member yet")
        if view.manager is None:
            return view.unseen()
        state = view.manager.nodes.get(node.name)
        if state != "online":
            return no(f"HA calls {node.name} {state}")
        lrm = view.manager.lrms.get(node.name)
        if lrm is None or not view.manager.fresh(node.name):
            return no(f"the LRM of {node.name} has not written a fresh stamp")
        observer.boot_id(node)
        return yes(f"{node.name} is online, LRM {lrm.state}")

    return Condition(f"node {node.name} is back", ask)


def quorum_whole(but: frozenset[str] = frozenset()) -> Condition:
    """Every node, asked itself, says that the cluster is quorate and that all nodes are members; ``but`` those."""

    def ask(observer: Observer) -> Answer:
        site = observer.site
        others = [node for node in site.nodes if node.name not in but]
        for node in others:
            if node.name not in site.cluster.endpoints:  # the inventory names two endpoints at least, not all
                votes = node.votes(site.clock.deadline(READ))
                few = (votes.nodes or 0) < len(others) if but else votes.total < votes.expected
                if not votes.quorate or few:
                    return no(f"{node.name} says: quorate {votes.quorate}, {votes.total} of {votes.expected} votes")
                continue
            membership = site.cluster.membership(site.clock.deadline(READ), at=node.name)
            listed = {**dict.fromkeys(site.nodes.names, False), **membership.online}
            missing = sorted(name for name, there in listed.items() if not there and name not in but)
            if not membership.quorate or missing:
                return no(f"{node.name} says: quorate {membership.quorate}, missing {', '.join(missing) or 'nobody'}")
        return yes("quorate from every node's view")

    return Condition("quorum is whole from every node's view", ask)


def _places(observer: Observer, sids: list[str]) -> str:
    """What HA says of these guests, in parentheses: a guest that is started and silent is slow inside, not lost."""
    manager = observer.look().manager
    if manager is None:
        return ""
    told = [f"{row.state} on {row.node}" for sid in sids if (row := manager.services.get(sid)) is not None]
    return f" (HA: {', '.join(dict.fromkeys(told))})" if told else ""


LASTING = 10.0
"""Seconds of good answers that make a recovery lasting."""


def answering(guests: Guests) -> Condition:
    """Every guest's application has answered every probe for ten seconds."""

    def ask(observer: Observer) -> Answer:
        sampler, agents = observer.sampler, observer.agents
        if not any(one is not None and one.alive for one in (sampler, agents)):
            return cant_tell("nothing is being sampled; call run.watch(guests) first")
        now = observer.site.clock.now().mono
        bad, young = [], []
        for guest in guests:
            asked = [sampler] if guest.probes else []
            since = [one.good_since(guest.sid) if one else None for one in [*asked, *([agents] if guest.agent else [])]]
            if not since or None in since:
                bad.append(guest.sid)
            elif any(now - each < LASTING * SECOND for each in since if each is not None):
                young.append(guest.sid)
        if bad:
            return no(f"no answer from {', '.join(bad)}{_places(observer, bad)}")
        if young:
            return no(f"{', '.join(young)} answers for less than {LASTING:g} s")
        return yes(f"{len(guests)} guests answer")

    return Condition(f"{len(guests)} guests answer again", ask)
