"""Conditions about quorum, asked of each node itself: lost, kept, whole; and what a node without it does."""

from __future__ import annotations

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles import corosync
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, not_there, yes
from pytest_pveha.observe.observer import READ, Observer

PROBE = "/etc/pve/priv/pveha-write-probe"
"""A file that is made and removed again to see whether a node may write; only root reads what lies there."""

GLANCE = 3.0
"""Seconds for a question to a node that may be resetting itself."""

_BITTEN = "watchdog expired"
"""What watchdog-mux writes before the hardware resets the node (pve-ha-manager watchdog-mux.c)."""


def lost(nodes: Nodes) -> Condition:
    """Each of these nodes says that it is not quorate."""
    return _all_say(nodes, quorate=False)


def kept(nodes: Nodes) -> Condition:
    """Each of these nodes says that it is quorate."""
    return _all_say(nodes, quorate=True)


def _all_say(nodes: Nodes, *, quorate: bool) -> Condition:
    word = "quorate" if quorate else "not quorate"

    def ask(observer: Observer) -> Answer:
        observer.look()
        told = []
        for node in nodes:
            found = corosync.quorum(node, observer.site.clock.deadline(READ))
            told.append(f"{node.name} {found.total} of {found.expected} votes, {found.quorum} needed")
            if found.quorate is not quorate:
                return no(f"{node.name} says that it is {'quorate' if found.quorate else 'not quorate'} ({told[-1]})")
        return yes(f"{word}: {'; '.join(told)}")

    return Condition(f"{_names(nodes)}: {word} by their own word", ask)


def refuses_writes(nodes: Nodes) -> Condition:
    """The cluster's file system on each of these nodes refuses to be written; nothing of the try is left."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        if not observer.site.cluster.proxmox:
            return not_there()
        for node in nodes:
            said = corosync.write_refused(node, PROBE, observer.site.clock.deadline(READ))
            if said is None:
                return no(f"{node.name} wrote a file below /etc/pve, though it is cut off")
        return yes(f"{_names(nodes)}: {corosync.DENIED}")

    return Condition(f"{_names(nodes)}: nothing can be written below /etc/pve", ask)


def reset(nodes: Nodes) -> Condition:
    """Each of these nodes has a new boot id since the incident began: it was reset, and its userland is back."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        began = _began(observer)
        waiting = []
        for node in nodes:
            if _new_boot(observer, node, began):
                continue
            try:
                observer.boot_id(node, GLANCE)
            except SiteError:
                waiting.append(f"{node.name} is silent")
                continue
            if not _new_boot(observer, node, began):
                waiting.append(f"{node.name} has the boot id it had")
        if waiting:
            return no("; ".join(waiting))
        return yes("; ".join(f"{node.name} has a new boot id{_why(observer, node)}" for node in nodes))

    return Condition(f"{_names(nodes)}: reset by the own watchdog", ask)


def _began(observer: Observer) -> int:
    """When the present incident began, on the run's monotonic clock (ns)."""
    now = observer.site.clock.now()
    return now.mono - round(now.utc - observer.since * SECOND)


def _new_boot(observer: Observer, node: Node, began: int) -> bool:
    change = observer.change(f"boot_id/{node.name}")
    return change is not None and change[1] >= began


def _why(observer: Observer, node: Node) -> str:
    """What its journal tells of its end, where it survived."""
    try:
        lines = node.journal(observer.since, ("watchdog-mux",), observer.site.clock.deadline(READ))
    except SiteError:
        return ""
    return ", its journal: watchdog expired" if any(_BITTEN in line.text for line in lines) else ""


def one_side(one: Nodes, other: Nodes) -> Condition:
    """All nodes of one side are quorate, and none of the other's."""

    def ask(observer: Observer) -> Answer:
        told = [_quorate(observer, side) for side in (one, other)]
        words = "; ".join(
            f"{', '.join(sorted(name for name, yes in side.items() if yes)) or 'nobody'} of {', '.join(side)}"
            for side in told
        )
        if any(not any(a.values()) and all(b.values()) for a, b in (told, told[::-1])):
            observer.look()
            return yes(f"quorate: {words}")
        return no(f"quorate: {words}")

    return Condition(f"one side of {_names(one)} and {_names(other)} goes on", ask)


def _quorate(observer: Observer, nodes: Nodes) -> dict[str, bool]:
    deadline = observer.site.clock.deadline
    return {node.name: corosync.quorum(node, deadline(READ)).quorate for node in nodes}


def loser_refuses_writes(one: Nodes, other: Nodes) -> Condition:
    """On the side that lost quorum nothing can be written; which side that is, is seen now."""

    def ask(observer: Observer) -> Answer:
        side = next((side for side in (one, other) if not any(_quorate(observer, side).values())), None)
        if side is None:
            return no(f"{_names(one)} and {_names(other)} are both quorate")
        return refuses_writes(side).ask(observer)

    return Condition(f"the side of {_names(one)} and {_names(other)} that lost writes nothing below /etc/pve", ask)


def loser_reset(one: Nodes, other: Nodes) -> Condition:
    """The side that lost quorum is reset, as far as its nodes guarded guests; which side that is was seen before."""
    losers: list[Node] = []

    def ask(observer: Observer) -> Answer:
        if not losers:
            view = observer.look()
            if view.manager is None:
                return view.unseen()
            side = next((side for side in (one, other) if not any(_quorate(observer, side).values())), None)
            if side is None:
                return no(f"{_names(one)} and {_names(other)} are both quorate")
            guarding = {service.node for service in view.manager.services.values()}
            losers.extend(node for node in side if node.name in guarding)
        return reset(Nodes(losers)).ask(observer)

    return Condition(f"the side of {_names(one)} and {_names(other)} that lost is reset by its watchdogs", ask)


def device_votes(nodes: Nodes) -> Condition:
    """Each of these nodes counts votes of the quorum device."""
    return _device(nodes, votes=True)


def device_gone(nodes: Nodes) -> Condition:
    """Each of these nodes counts no vote of the quorum device."""
    return _device(nodes, votes=False)


def _device(nodes: Nodes, *, votes: bool) -> Condition:
    def ask(observer: Observer) -> Answer:
        observer.look()
        told = []
        for node in nodes:
            found = corosync.quorum(node, observer.site.clock.deadline(READ))
            if found.device is None:
                return no(f"{node.name} lists no quorum device") if votes else cant_tell(f"{node.name} lists none")
            told.append(f"{node.name}: {found.total} of {found.expected}, {found.quorum} needed, device {found.device}")
            if bool(found.device) is not votes:
                return no(f"{node.name} counts {found.device} votes of the quorum device ({told[-1]})")
        return yes("; ".join(told))

    return Condition(f"{_names(nodes)}: the quorum device {'votes' if votes else 'is gone'}", ask)


def device_missed(nodes: Nodes) -> Condition:
    """Each of these nodes says itself that it is not connected to the quorum device: whoever looks there sees it."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        told = {node.name: corosync.device_state(node, observer.site.clock.deadline(READ)) for node in nodes}
        if blind := [name for name, state in told.items() if state == "Connected"]:
            return no(f"{', '.join(blind)} says that it is connected")
        return yes("; ".join(f"{name}: {state}" for name, state in told.items()))

    return Condition(f"{_names(nodes)} say that the quorum device is missing", ask)


def links_up(nodes: Nodes) -> Condition:
    """Each of these nodes calls each of its links connected to every other."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        for node in nodes:
            for link, peers in corosync.links(node, observer.site.clock.deadline(READ)).items():
                if not peers or not all(peers.values()):
                    return no(f"{node.name} does not call link {link} connected to everybody")
        return yes("every link is up from every node's view")

    return Condition("all corosync links are up again", ask)


def link_up(nodes: Nodes, link: int) -> Condition:
    """Each of these nodes calls that link connected to every other."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        for node in nodes:
            peers = corosync.links(node, observer.site.clock.deadline(READ)).get(link, {})
            if not peers or not all(peers.values()):
                return no(f"{node.name} does not call link {link} connected to everybody")
        return yes(f"link {link} is up from every node's view")

    return Condition(f"link {link} is up again", ask)


def _names(nodes: Nodes) -> str:
    return ", ".join(nodes.names)
