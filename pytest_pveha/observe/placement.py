"""Where guests run, against where they may: HA's rules, and the memory of the nodes."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.ha_homes import company, rightful
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer

_RUNNING = ("started", "migrate", "freeze")
"""States in which HA's manager has a service run."""


def by_the_rules(guests: Guests) -> Condition:
    """Each guest is where HA's rules allow it to be while these nodes are online, with and apart from whom they say."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.membership is None or view.manager is None:
            return view.unseen()
        online = [name for name, there in view.membership.online.items() if there]
        rules = observer.site.cluster.ha_rules(observer.site.clock.deadline(READ))
        where = {sid: row.node for sid, row in view.manager.services.items() if row.state == "started"}
        absent = sorted(sid for sid in guests.sids if sid not in where)
        if absent:
            return no(f"not started: {', '.join(absent)}")
        may = rightful(rules, online)
        wrong = [
            f"{sid} is on {where[sid]}, and by its rules belongs on {' or '.join(sorted(may[sid])) or 'no node'}"
            for sid in guests.sids
            if sid in may and where[sid] not in may[sid]
        ]
        wrong += [broken for together, sids in company(rules) if (broken := _parted_or_met(together, sids, where))]
        return no("; ".join(wrong)) if wrong else yes(f"{len(guests)} guests are where their rules allow")

    return Condition(f"{len(guests)} guests are where HA's rules allow them to be", ask)


def _parted_or_met(together: bool, sids: frozenset[str], where: Mapping[str, str]) -> str:
    """What is wrong with the company of these services; empty if nothing is."""
    there = sorted((sid, where[sid]) for sid in sids if sid in where)
    nodes = [node for _, node in there]
    said = ", ".join(f"{sid} on {node}" for sid, node in there)
    if together and len(set(nodes)) > 1:
        return f"{said}, although a rule keeps them together"
    if not together and len(set(nodes)) < len(nodes):
        return f"{said}, although a rule keeps them apart"
    return ""


def within_memory(nodes: Nodes) -> Condition:
    """The guests that run on each of these nodes were promised no more memory than it has.

    Where a guest under HA runs its manager knows; the cluster's list of guests is some seconds behind.
    """

    def ask(observer: Observer) -> Answer:
        cluster, deadline = observer.site.cluster, observer.site.clock.deadline
        has = cluster.memory(deadline(READ))
        services = cluster.manager(deadline(READ)).services
        promised = dict.fromkeys(nodes.names, 0)
        for sid, guest in cluster.guests(deadline(READ)).items():
            service = services.get(sid)
            runs = guest.status == "running" if service is None else service.state in _RUNNING
            where = guest.node if service is None else service.node
            if runs and where in promised:
                promised[where] += guest.memory
        unknown = [name for name in promised if name not in has]
        if unknown:
            return cant_tell(f"the memory of {', '.join(unknown)} is not told")
        over = [
            f"{name} has {_gib(has[name][0])}, and its guests were promised {_gib(size)}"
            for name, size in promised.items()
            if size > has[name][0]
        ]
        told = ", ".join(f"{name} {_gib(size)} of {_gib(has[name][0])}" for name, size in promised.items())
        return no("; ".join(over)) if over else yes(told)

    return Condition(f"the guests on {', '.join(nodes.names)} fit into memory", ask)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
