"""Ceph's maps, read by a node that answers; and what it is doing now.

What ``ceph status`` says of placement groups is older than its OSD map. An OSD learns of a new map from the others'
heartbeats at the latest (osd_heartbeat_interval, 6 s), tells the manager how its groups are every 5 s
(mgr_stats_period), and the manager tells the mons every 2 s (mgr_tick_period). So an OSD may have come back, or have
gone, and all is called active+clean for seconds still, before anything has peered (seen on 16.2.15). Source: Ceph's
documentation, "Configuring Monitor/OSD Interaction" and "ceph-mgr administrator's guide", and its own options' help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import ProtocolError, SiteError
from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.status import CephStatus
from pytest_pveha.handles.ceph.status import whole as is_whole
from pytest_pveha.handles.node import Node
from pytest_pveha.observe.answer import Answer, cant_tell, no, yes
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.what_if import CephMap

ASK = 15.0
"""Seconds for one question to Ceph's own tool."""

SETTLED = 15.0
"""Seconds that the OSD map has to have been the same before what is said of placement groups is believed to be about
it: more than the three periods together."""

PATIENCE = 3 * SETTLED
"""Seconds for which it is waited for that; others may change the map, too."""

T = TypeVar("T")


def told_by(observer: Observer, ask: Callable[[Node], T], but: Iterable[str] = ()) -> T:
    """What the first node says that has an answer. SiteError where none has.

    Those named, those that were last seen not to be members, and those that had no answer when they were asked last
    are asked last: a dead node, and one that is cut off, takes its time.
    """
    avoided, mute = frozenset(but), observer.mute_of_ceph
    trouble = []
    for node in sorted(
        observer.site.nodes, key=lambda node: (_lost(observer, node), node.name in mute, node.name in avoided)
    ):
        try:
            found = ask(node)
        except SiteError as error:
            mute.add(node.name)
            trouble.append(str(error))
        else:
            mute.discard(node.name)
            return found
    raise SiteError(f"no node could say how Ceph is: {'; '.join(trouble)[:400]}")


def _lost(observer: Observer, node: Node) -> bool:
    return observer.last(f"membership/{node.name}") == "offline"


def read(observer: Observer, but: Iterable[str] = ()) -> CephMap:
    """The maps as they are now, all from one node.

    Raises:
        SiteError: no node answers, or what one answers does not fit together.
    """
    deadline = observer.site.clock.deadline

    def ask(node: Node) -> CephMap:
        found = CephMap(
            osd_map=shell.osd_map(node, deadline(ASK)),
            places=shell.places(node, deadline(ASK)),
            rules=shell.rules(node, deadline(ASK)),
            pgs=shell.pgs(node, deadline(ASK)),
            rooms=shell.rooms(node, deadline(ASK)),
            stored=shell.stored(node, deadline(ASK)),
        )
        if found.gaps:
            raise ProtocolError(f"node {node.name}: Ceph's maps do not fit together: {'; '.join(found.gaps)[:300]}")
        return found

    return told_by(observer, ask, but)


def status(observer: Observer, but: Iterable[str] = ()) -> CephStatus:
    """What Ceph says of itself now."""
    deadline = observer.site.clock.deadline
    return _remembered(observer, lambda: told_by(observer, lambda node: shell.status(node, deadline(ASK)), but))


def _remembered(observer: Observer, ask: Callable[[], CephStatus]) -> CephStatus:
    """What Ceph says of itself; since when its OSD map is known to be this one is remembered."""
    clock = observer.site.clock
    asked = clock.now().mono
    found = ask()
    epoch, since, _ = observer.ceph_map
    observer.ceph_map = (found.epoch, since if epoch == found.epoch else clock.now().mono, asked)
    return found


def whole(observer: Observer, found: CephStatus) -> Answer:
    """Whether every placement group is active+clean, by what was told of them after the last change of the OSD map.

    Before it is waited for that long, and where no manager confirms it, nobody can tell: without one, what it told
    the mons last stands for ever.
    """
    if not found.told_all:
        return cant_tell(f"Ceph does not tell of all placement groups: {found.in_words}")
    if not found.clean:
        return no(f"{found.in_words}; {found.degraded} copies lacking, {found.misplaced} elsewhere")
    epoch, since, asked = observer.ceph_map
    same = max(0, asked - since) / SECOND
    if found.epoch != epoch or same < SETTLED:
        return cant_tell(
            f"{found.in_words}; but its OSD map is known to be the same for {same:.0f} s only, and what is said of "
            f"placement groups may be {SETTLED:.0f} s old"
        )
    pgs = told_by(observer, lambda node: shell.pgs(node, observer.site.clock.deadline(ASK)))
    if other := [pg for pg in pgs if not is_whole(pg.state)]:
        return no(f"{found.in_words}; but by its manager {other[0].id} is {other[0].state}")
    return yes(found.in_words)


def settled(observer: Observer, ask: Callable[[], CephStatus] | None = None) -> tuple[CephStatus, Answer]:
    """What Ceph says of itself, and whether it is whole: where it says so and its map has just changed, a bit later.

    Asked by the nodes, or by ``ask``.

    Raises:
        SiteError: nobody says how Ceph is.
    """
    clock = observer.site.clock
    deadline = clock.deadline(PATIENCE)
    while True:
        found = status(observer) if ask is None else _remembered(observer, ask)
        try:
            answer = whole(observer, found)
        except SiteError as error:
            answer = cant_tell(str(error))
        if answer.verdict != "cant_tell" or not found.clean or deadline.expired():
            return found, answer
        clock.sleep(1.0)
        observer.look()  # whoever watches goes on watching meanwhile
