"""Conditions of planned work: a node emptied, restarted, HA at work, guests home again, everybody on one version."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import SiteError
from pytest_pveha.handles.cluster import Manager
from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.snapshot import Snapshot


def emptied(node: Node) -> Condition:
    """The node is in maintenance, and no service of HA is on it or still leaving it: it may go down."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        state = view.manager.nodes.get(node.name)
        if state != "maintenance":
            return no(f"HA calls {node.name} {state}")
        here = sorted(sid for sid, row in view.manager.services.items() if row.node == node.name)
        if here:
            return no(f"still there: {', '.join(f'{sid} {view.manager.services[sid].state}' for sid in here)}")
        running = sorted(sid for sid in observer.processes(node).ages if sid in observer.site.guests.sids)
        if running:
            return no(f"still running on {node.name}: {', '.join(running)}")
        return yes(f"no HA guest is on {node.name}")

    return Condition(f"node {node.name} is empty", ask)


def rebooted(node: Node, before: Snapshot) -> Condition:
    """The node has another boot id than before, is a member again, and its LRM writes fresh stamps."""

    def ask(observer: Observer) -> Answer:
        if (old := before.boot_ids.get(node.name)) is None:
            return cant_tell(f"which boot {node.name} was in before is not known")
        if observer.boot_id(node) == old:
            return no(f"{node.name} is still in the boot it was in")
        view = observer.look()
        if view.membership is None or view.manager is None:
            return view.unseen()
        if not view.membership.online.get(node.name):
            return no(f"{node.name} has booted, and is no member yet")
        if not view.manager.fresh(node.name):
            return no(f"{node.name} has booted, and its LRM has not written a fresh stamp")
        return yes(f"{node.name} has booted anew and is a member")

    return Condition(f"node {node.name} is back from its reboot", ask)


def ha_working(nodes: Nodes) -> Condition:
    """The CRM master and every node's LRM have written since this was first asked, and every node is online."""
    first: list[float] = []

    def ask(observer: Observer) -> Answer:
        first.append(observer.site.clock.now().utc / SECOND)
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        manager = view.manager
        if not manager.master or manager.timestamp <= first[0]:
            return no(f"the CRM master ({manager.master or 'nobody'}) has not written yet")
        late = [node.name for node in nodes if not _wrote(manager, node.name, first[0])]
        if late:
            return no(f"the LRM of {', '.join(late)} has not written yet")
        off = [node.name for node in nodes if manager.nodes.get(node.name) != "online"]
        if off:
            return no(", ".join(f"HA calls {name} {manager.nodes.get(name)}" for name in off))
        return yes(f"{manager.master} is master, every LRM writes")

    return Condition("the HA manager works on every node", ask)


def home(guests: Guests, before: Snapshot) -> Condition:
    """Each guest is in the HA state and on the node it was in before, and its process was seen there."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        away = []
        for sid in guests.sids:
            row = view.manager.services.get(sid)
            now = f"{row.state}@{row.node}" if row is not None else "absent"
            if now != before.services.get(sid, "absent"):
                away.append(f"{sid} {now}")
        if away:
            return no(f"not as before: {', '.join(away)}")
        homes = {sid: before.services[sid].partition("@")[2] for sid in guests.sids if sid in before.services}
        started = {sid: name for sid, name in homes.items() if before.services[sid].startswith("started@")}
        for name in sorted(set(started.values())):
            running = observer.processes(observer.site.nodes[name]).ages
            missing = sorted(sid for sid, node in started.items() if node == name and sid not in running)
            if missing:
                return no(f"no process of {', '.join(missing)} on {name}")
        return yes(f"{len(guests)} guests are where they were")

    return Condition(f"{len(guests)} guests are home", ask)


def settled(guests: Guests, before: Snapshot) -> Condition:
    """Each guest is in the HA state it was in before, on whatever node: rules may keep it where it went."""

    def ask(observer: Observer) -> Answer:
        view = observer.look()
        if view.manager is None:
            return view.unseen()
        rows = {sid: view.manager.services.get(sid) for sid in guests.sids}
        states = {sid: row.state if row is not None else "absent" for sid, row in rows.items()}
        other = [
            f"{sid} {state}"
            for sid, state in states.items()
            if state != before.services.get(sid, "absent").partition("@")[0]
        ]
        return no(f"not as before: {', '.join(other)}") if other else yes(f"{len(guests)} guests are as they were")

    return Condition(f"{len(guests)} guests are settled", ask)


def same_version(nodes: Nodes) -> Condition:
    """Every node runs the same Proxmox VE and the same kernel."""

    def ask(observer: Observer) -> Answer:
        site = observer.site
        found: dict[str, str] = {}
        for node in nodes:
            try:
                version = site.cluster.versions(site.clock.deadline(READ), node.name)
                kernel = node.command(site.clock.deadline(READ), "uname", "-r").strip()
            except SiteError as error:
                return cant_tell(str(error))
            if not version or not kernel:
                return cant_tell(f"{node.name} names no version")
            found[node.name] = f"{version}, kernel {kernel}"
        return _one_of(found.values(), found)

    return Condition("every node has the same version", ask)


def _one_of(values: Iterable[str], found: dict[str, str]) -> Answer:
    kinds = set(values)
    if len(kinds) > 1:
        return no("; ".join(f"{name}: {value}" for name, value in found.items()))
    return yes(f"{len(found)} nodes with {', '.join(kinds)}") if kinds else cant_tell("no node was asked")


def _wrote(manager: Manager, node: str, since: float) -> bool:
    """By our clock; the gate has seen that the nodes' agree with it."""
    lrm = manager.lrms.get(node)
    return lrm is not None and lrm.timestamp > since
