"""Conditions about quorum, asked of each node itself: lost, kept, whole; and what a node without it does."""

from __future__ import annotations

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles import corosync
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
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


def device_votes(nodes: Nodes, votes: int) -> Condition:
    """Each of these nodes counts so many votes of the quorum device."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        for node in nodes:
            found = corosync.quorum(node, observer.site.clock.deadline(READ))
            if found.device is None:
                return cant_tell(f"{node.name} lists no quorum device")
            if found.device != votes:
                return no(f"{node.name} counts {found.device} votes of the quorum device, {found.total} in all")
        return yes(f"{_names(nodes)}: {votes} votes of the quorum device")

    return Condition(f"{_names(nodes)}: the quorum device casts {votes} votes", ask)


def _names(nodes: Nodes) -> str:
    return ", ".join(nodes.names)
