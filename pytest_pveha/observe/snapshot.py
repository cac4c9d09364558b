"""The site as it was found: what must be so again when a run is over."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pytest_pveha.errors import SiteError
from pytest_pveha.handles.cluster import NOBODY, Manager
from pytest_pveha.observe import settings
from pytest_pveha.observe.observer import READ, Observer


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Who was there and what ran where."""

    cluster: str
    quorate: bool
    nodes: dict[str, str]
    """HA's word for each node (``online``), or ``offline`` where it is no member; without HA that it is one."""
    services: dict[str, str]
    """``state@node`` of each HA service."""
    guests: dict[str, str]
    """``status@node`` of every guest, HA or not."""
    boot_ids: dict[str, str]
    guarded: dict[str, bool] = field(default_factory=dict)
    """Whether each node's LRM holds its lock and, as watchdog-mux runs, the watchdog: else none is fenced in time."""
    settings: dict[str, str] = field(default_factory=dict)
    """How HA and Ceph are set, and what of ours stands on the nodes; empty where it was not asked."""
    surroundings: dict[str, str] = field(default_factory=dict)
    """What else stands on the nodes and may change with a reboot, without us: it is told, and not waited for."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Snapshot:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


def take(observer: Observer) -> Snapshot:
    """Who is there now and what runs where. SiteError when it cannot be seen whole."""
    return closer(observer, outline(observer))


def outline(observer: Observer) -> Snapshot:
    """The same as the cluster tells it, in three reads: no node is asked for its boot id or its watchdog's daemon."""
    site = observer.site
    view = observer.look()
    if view.membership is None or not view.whole:
        raise SiteError(f"the site cannot be seen: {view.trouble}")
    manager = view.manager or NOBODY
    guests = site.cluster.guests(site.clock.deadline(READ))
    nodes = {
        name: (manager.nodes.get(name, "unknown") if view.manager else "online") if online else "offline"
        for name, online in sorted(view.membership.online.items())
    }
    return Snapshot(
        cluster=view.membership.cluster,
        quorate=view.membership.quorate,
        nodes=nodes,
        services={sid: f"{row.state}@{row.node}" for sid, row in sorted(manager.services.items())},
        guests={sid: f"{row.status}@{row.node}" for sid, row in sorted(guests.items())},
        boot_ids={},
        guarded={name: _guarded(manager, name) for name in nodes},
    )


def closer(observer: Observer, seen: Snapshot) -> Snapshot:
    """The same with what only the nodes themselves tell: their boot ids, and whether the multiplexers run."""
    there = [node for node in observer.site.nodes if seen.nodes.get(node.name, "offline") != "offline"]
    boot_ids = {node.name: observer.boot_id(node) for node in there}
    guarded = {name: held and (name not in boot_ids or _watched(observer, name)) for name, held in seen.guarded.items()}
    return replace(seen, boot_ids=boot_ids, guarded=guarded)


def with_settings(observer: Observer, seen: Snapshot) -> Snapshot:
    """The same with how the site is set: what cannot be read is recorded as unknown."""
    there = [name for name, state in seen.nodes.items() if state != "offline"]
    ours, others = settings.on_the_nodes(observer, there)
    return replace(seen, settings={**settings.of_the_cluster(observer), **ours}, surroundings=others)


def _guarded(manager: Manager, node: str) -> bool:
    lrm = manager.lrms.get(node)
    return lrm is not None and lrm.guarded and manager.fresh(node)


def _watched(observer: Observer, name: str) -> bool:
    """Whether the multiplexer runs, by which an LRM's watchdog is one: without it the LRM goes on, and says nothing."""
    return observer.site.nodes[name].units.active("watchdog-mux", observer.site.clock.deadline(READ))


def differences(found: Snapshot, now: Snapshot) -> list[str]:
    """What is not as it was found, in words.

    Boot ids are no part of it: a healed node has a new one. A node that was not guarded and now is, is fine: its LRM
    goes idle by itself. One that no longer is, is not: the master that fenced it holds its lock for two minutes more,
    and a fault that came meanwhile would meet a node without a watchdog.
    """
    rows = [] if now.quorate == found.quorate else [f"quorate: {found.quorate} → {now.quorate}"]
    for what, before, after in (
        ("node", found.nodes, now.nodes),
        ("service", found.services, now.services),
        ("guest", found.guests, now.guests),
    ):
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key):
                rows.append(f"{what} {key}: {before.get(key, 'absent')} → {after.get(key, 'absent')}")
    for node, was in sorted(found.guarded.items()):
        if was and now.nodes.get(node) == "online" and not now.guarded.get(node):
            rows.append(f"the LRM of {node}: active → not active, or without its watchdog-mux")
    if found.settings and now.settings:
        rows += settings.changed(found.settings, now.settings)
    return rows


def surroundings(found: Snapshot, now: Snapshot) -> list[str]:
    """What else is not as it was found, and need not be our doing, and what could not be compared: to be told."""
    if not found.surroundings or not now.surroundings:
        return []
    unread = sorted(key for key, value in found.surroundings.items() if value == settings.UNKNOWN)
    told = [f"not compared, since it could not be read at first: {', '.join(unread)}"] if unread else []
    return [*settings.changed(found.surroundings, now.surroundings), *told]
