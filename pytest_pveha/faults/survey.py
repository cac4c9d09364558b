"""The site as the interlock needs it: asked whole before each fault, each node by itself over SSH."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeVar

from pytest_pveha.errors import SiteError
from pytest_pveha.faults.fault import Reach, Restoring
from pytest_pveha.faults.objections.guests import MEMORY_SHARE
from pytest_pveha.faults.objections.manager import SETTLED
from pytest_pveha.faults.objections.ourselves import needs
from pytest_pveha.faults.objections.state import CephState, Source, State
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.ceph_map import read, settled
from pytest_pveha.observe.identity import own_marks
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.what_if import CephMap, without

_CONFIG = "/etc/corosync/corosync.conf"
_SHARED_CONFIG = "/etc/pve/corosync.conf"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the inventory says that the live site cannot."""

    permitted: frozenset[str] | None
    """Guests that may go down; None: all."""
    never_touch: frozenset[str] = frozenset()
    qdevice: str | None = None
    """The quorum device's algorithm, where one is in scope."""


def look(observer: Observer, terms: Terms, reach: Reach) -> State:
    """The site as it is now. SiteError when its API does not tell; what a single node does not tell is left out."""
    site, deadline = observer.site, observer.site.clock.deadline
    membership = site.cluster.membership(deadline(READ))
    guests = site.cluster.guests(deadline(READ))
    votes = site.cluster.votes(deadline(READ))
    online = frozenset(name for name, there in membership.online.items() if there)
    here = [node for node in site.nodes if node.name in online]
    counted = _asked(here, lambda node: node.votes(deadline(READ)))
    ways = _asked(here, lambda node: node.way(deadline(READ)))
    own = _asked(here, lambda node: node.own_addresses(deadline(READ)))
    met = {name: {way.at} for name, way in ways.items()}
    common = State(
        votes=votes,
        counted=counted,
        online=online,
        quorate=membership.quorate,
        armed=None,
        totem=site.cluster.totem(deadline(READ), len(votes)),
        device_votes=_device_votes(terms.qdevice, sum(votes.values())),
        qdevice_connected=site.cluster.qdevice_connected(deadline(READ)) if terms.qdevice else None,
        configs=_asked(here, lambda node: node.command(deadline(READ), "cat", _CONFIG)),
        guests=guests,
        permitted=terms.permitted,
        never_touch=terms.never_touch,
        clocks=_asked(here, lambda node: node.clock_offset(deadline(READ))),
        ceph=_ceph(observer, online, reach) if site.has_ceph else None,
        ceph_without={
            side: _ceph(observer, online, replace(reach, nodes=side, sides=()))
            for side in (reach.sides if site.has_ceph else ())
        },
        api_answered=frozenset({membership.local}).union(
            *(_api_answered(observer, side) for side in reach.sides or (reach.nodes,))
        ),
        ssh_answered=frozenset(counted),
        seen_from={name: way.seen_from for name, way in ways.items()},
        addresses={
            node.name: frozenset(_outward(own.get(node.name, frozenset()) | met.get(node.name, set()))) for node in here
        },
        watchdog_clients=_asked(
            [node for node in here if (node.name, "watchdog-mux") in _plain(reach.units)],
            lambda node: node.watchdog_has_clients(deadline(READ)),
        ),
        source=_source(observer, reach.restoring) if reach.restoring is not None else None,
        proxmox=site.cluster.proxmox,
    )
    return _of_proxmox(observer, common, reach, here) if common.proxmox else _without(common)


def _of_proxmox(observer: Observer, common: State, reach: Reach, here: list[Node]) -> State:
    """With what its API tells of HA, tasks and our rights, and its file system of corosync.conf."""
    cluster, deadline = observer.site.cluster, observer.site.clock.deadline
    manager = cluster.manager(deadline(READ))
    rules = cluster.ha_rules(deadline(READ))
    memory = cluster.memory(deadline(READ))
    # those on a node that is lost already were looked at before it was
    reached = {sid: guest for sid, guest in common.guests.items() if guest.node in common.online}
    identities = cluster.guest_identities(deadline(READ), reached)
    return replace(
        common,
        armed=cluster.armed(deadline(READ)),
        shared_config=_first(here, lambda node: node.command(deadline(READ), "cat", _SHARED_CONFIG)),
        maintenance=manager.maintenance,
        free_memory={name: max(0, round(total * MEMORY_SHARE) - used) for name, (total, used) in memory.items()},
        moving=frozenset(
            sid for sid, row in rules.resources.items() if row.get("state", "started") in ("started", "enabled")
        ),
        candidates=rules.candidates(),
        tasks=cluster.running_tasks(deadline(READ)),
        unsettled={sid: row.state for sid, row in manager.services.items() if row.state not in SETTLED},
        controller_guest=next((sid for mark, sid in sorted(identities.items()) if mark in own_marks()), None),
        privileges={
            path: cluster.privileges(path, deadline(READ))
            for path in sorted({path for path, _ in needs(common.guests, reach)})
        },
    )


def _without(common: State) -> State:
    """No HA and no API: the nodes' files are compared with each other, and nothing moves or is under way."""
    return replace(common, shared_config=next(iter(common.configs.values()), None))


def _source(observer: Observer, copy: Restoring) -> Source:
    """The backup, its key, and the room that there is for it."""
    site, deadline = observer.site, observer.site.clock.deadline
    if site.backups is None:
        return Source(None, None, None, None)
    room = site.backups.room(copy.storage, copy.node, deadline(READ))
    found = next(
        (one for one in site.backups.of(copy.sid, copy.node, deadline(READ)) if one.volume == copy.volume), None
    )
    key: bool | None = True
    if found is not None and found.key:
        key = None
        with suppress(SiteError):
            key = site.backups.key_on(site.nodes[copy.node], deadline(READ))
    return Source(
        found.verification if found is not None else None,
        key,
        room.total if room.active else None,
        room.used if room.active else None,
    )


T = TypeVar("T")


def _asked(nodes: Iterable[Node], ask: Callable[[Node], T]) -> dict[str, T]:
    """What each node answered; one that did not is left out, and that is for the rules to judge."""
    found = {}
    for node in nodes:
        with suppress(SiteError):
            found[node.name] = ask(node)
    return found


def _first(nodes: Iterable[Node], ask: Callable[[Node], T]) -> T | None:
    """What the first of them that answers says."""
    for node in nodes:
        with suppress(SiteError):
            return ask(node)
    return None


def _outward(addresses: Iterable[str]) -> Iterator[str]:
    """Those that are no loopback: every machine has that."""
    return (each for each in addresses if not ip_address(each).is_loopback)


def _device_votes(algorithm: str | None, votes: int) -> int:
    """What the device casts: one with ffsplit, one less than all nodes together with lms (corosync-qdevice(8))."""
    return 0 if algorithm is None else 1 if algorithm == "ffsplit" else votes - 1


def _plain(units: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(node, unit.removesuffix(".service")) for node, unit in units}


def _api_answered(observer: Observer, lost: frozenset[str]) -> frozenset[str]:
    """The nodes outside of those lost whose own API answers; one is enough, and then no more are asked."""
    site = observer.site
    for name in site.cluster.endpoints:
        if name in lost:
            continue
        with suppress(SiteError):
            local = site.cluster.membership(site.clock.deadline(READ), at=name).local
            if local and local not in lost:
                return frozenset({local})
    return frozenset()


def _ceph(observer: Observer, online: frozenset[str], reach: Reach) -> CephState:
    site, deadline = observer.site, observer.site.clock.deadline
    others = [node for node in site.nodes if node.name in online - reach.nodes] or list(site.nodes)
    status, whole = settled(observer, lambda: site.ceph.status(deadline(READ)))
    daemons = site.ceph.daemons(others[0].name, deadline(READ))
    osds = tuple(sorted({osd for node in reach.nodes for osd in daemons.osds.get(node, ())} | reach.osds))
    told: tuple[bool | None, str] | None = None
    if osds:
        told = _first(others, lambda node: node.ceph_ok_to_stop(osds, deadline(READ)))
    maps = _maps(observer, reach) if osds else None
    return CephState(
        clean=whole.verdict == "yes",
        unsure=whole.saw if whole.verdict == "cant_tell" else "",
        pgs=status.pgs,
        flags=site.ceph.flags(deadline(READ)),
        ok_to_stop=told[0] if told else None,
        said=told[1] if told else "no other node answered `ceph osd ok-to-stop` over SSH",
        osds=osds,
        mons=daemons.mons,
        in_quorum=frozenset(status.quorum),
        prediction=without(maps, osds, noout="noout" in maps.osd_map.flags) if maps else None,
        backfillfull=maps.osd_map.backfillfull if maps else 0.0,
    )


def _maps(observer: Observer, reach: Reach) -> CephMap | None:
    """Ceph's maps; None where nobody tells them: the rules judge that."""
    with suppress(SiteError):
        return read(observer, reach.nodes)
    return None
