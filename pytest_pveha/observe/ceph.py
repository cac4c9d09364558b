"""Conditions about Ceph, by the states of its placement groups: health tells late, and may tell nothing at all.

A cluster network that was cut left it at HEALTH_OK for 26 s while nothing was written (seen on 16.2.15).
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_pveha.handles.ceph import shell
from pytest_pveha.handles.ceph.daemon import OsdDaemon
from pytest_pveha.handles.ceph.maps import OsdMap
from pytest_pveha.handles.ceph.status import CephStatus, serves
from pytest_pveha.observe import ceph_map
from pytest_pveha.observe.answer import Answer, Condition, cant_tell, no, yes
from pytest_pveha.observe.ceph_map import ASK, told_by
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.what_if import Prediction

REBUILDS = frozenset({"recovering", "recovery_wait", "backfilling", "backfill_wait", "forced_recovery"})
"""Words of a state in which copies are made, or wait for their turn (Ceph's documentation, Placement Group States)."""

COPIES = frozenset({"recovering", "backfilling"})
"""Words of a state in which copies are being made now."""

LOST = frozenset({"incomplete", "down", "recovery_unfound", "backfill_unfound", "inconsistent", "snaptrim_error"})
"""Words of a state in which data cannot be read, or not be relied on."""


def _status(observer: Observer) -> CephStatus:
    observer.look()
    return ceph_map.status(observer)


def _osd_map(observer: Observer) -> OsdMap:
    observer.look()
    return told_by(observer, lambda node: shell.osd_map(node, observer.site.clock.deadline(ASK)))


def all_down(osds: Iterable[OsdDaemon]) -> Condition:
    """Ceph calls each of these OSDs down: from then on the others serve without them."""
    wanted = tuple(osds)

    def ask(observer: Observer) -> Answer:
        known = _osd_map(observer).osds
        if unknown := [one.name for one in wanted if one.id not in known]:
            return cant_tell(f"Ceph knows no {', '.join(unknown)}")
        up = [one.name for one in wanted if known[one.id].up]
        return no(f"Ceph calls {', '.join(up)} up") if up else yes("Ceph calls them down")

    return Condition(f"Ceph calls {', '.join(one.name for one in wanted)} down", ask)


def marked_out(osd: OsdDaemon) -> Condition:
    """The mons have marked the OSD out by themselves: from now on its data is rebuilt."""

    def ask(observer: Observer) -> Answer:
        one = _osd_map(observer).osds.get(osd.id)
        if one is None:
            return cant_tell(f"Ceph knows no {osd.name}")
        return no(f"{osd.name} is still in") if one.in_ else yes(f"{osd.name} is out")

    return Condition(f"{osd.name} is marked out by itself", ask)


def back(osd: OsdDaemon) -> Condition:
    """The OSD has come up again since it was looked at, and is in."""

    def ask(observer: Observer) -> Answer:
        one = _osd_map(observer).osds.get(osd.id)
        if one is None:
            return cant_tell(f"Ceph knows no {osd.name}")
        if one.up and one.up_from == osd.up_from:
            return no(f"Ceph has not noticed yet that {osd.name} was away")
        return yes(f"{osd.name} is up again and in") if one.up and one.in_ else no(f"{osd.name} is not up and in")

    return Condition(f"{osd.name} comes back by itself", ask)


def all_up(osds: Iterable[OsdDaemon]) -> Condition:
    """Ceph calls each of these OSDs up and in again."""
    wanted = tuple(osds)

    def ask(observer: Observer) -> Answer:
        known = _osd_map(observer).osds
        if unknown := [one.name for one in wanted if one.id not in known]:
            return cant_tell(f"Ceph knows no {', '.join(unknown)}")
        missing = [one.name for one in wanted if not (known[one.id].up and known[one.id].in_)]
        if missing:
            return no(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not up and in")
        return yes(f"{', '.join(one.name for one in wanted)}: up and in")

    return Condition(f"{', '.join(one.name for one in wanted)} up and in again", ask)


def degraded() -> Condition:
    """Placement groups lack copies, and serve on."""

    def ask(observer: Observer) -> Answer:
        found = _status(observer)
        if not found.told_all:
            return cant_tell(f"Ceph does not tell of all placement groups: {found.in_words}")
        short = any({"undersized", "degraded"} & set(state.split("+")) for state in found.pgs)
        return yes(found.in_words) if short and not found.inactive else no(found.in_words)

    return Condition("placement groups are degraded and serve on", ask)


def rebuilding() -> Condition:
    """Copies that were lost are being made again; or they all have been already, without what was lost."""

    def ask(observer: Observer) -> Answer:
        found = _status(observer)
        if found.clean:
            return rebuilt(observer, found)
        busy = any(REBUILDS & set(state.split("+")) for state in found.pgs)
        return yes(f"{found.in_words}, {found.degraded} copies lacking") if busy else no(found.in_words)

    return Condition("the rebuild has begun by itself", ask)


def rebuilt(observer: Observer, found: CephStatus) -> Answer:
    """That nothing is to be rebuilt any more, as Ceph says; can't tell while that may be old."""
    answer = ceph_map.whole(observer, found)
    return yes(f"it is rebuilt: {answer.saw}") if answer.verdict == "yes" else answer


def clean() -> Condition:
    """Every placement group is active+clean, and has been so since the OSD map changed last."""

    def ask(observer: Observer) -> Answer:
        return ceph_map.whole(observer, _status(observer))

    return Condition("all placement groups are active+clean", ask)


def as_predicted(told: Prediction) -> Condition:
    """Those placement groups lack copies that were to, all of them serve, and no others lack any."""

    def ask(observer: Observer) -> Answer:
        observer.look()
        pgs = told_by(observer, lambda node: shell.pgs(node, observer.site.clock.deadline(ASK)))
        if told.unsure:
            return cant_tell(f"it could not be foreseen of {len(told.unsure)} placement groups")
        if dead := [pg.id for pg in pgs if not serves(pg.state)]:
            return no(f"{len(dead)} placement groups serve nothing, such as {dead[0]}")
        short = {pg.id for pg in pgs if "undersized" in pg.state.split("+")}
        other = short ^ set(told.undersized)
        if other:
            return no(f"{len(short)} are undersized, {len(told.undersized)} were to be; {len(other)} differ")
        return yes(f"{len(short)} of {len(pgs)} placement groups are undersized, as foreseen, and all serve")

    return Condition("each placement group is as it was foreseen", ask)


def mons_in_quorum(names: Iterable[str]) -> Condition:
    """All of these mons are in quorum, and one of them leads."""
    wanted = frozenset(names)

    def ask(observer: Observer) -> Answer:
        observer.look()
        found = told_by(observer, lambda node: shell.mons(node, observer.site.clock.deadline(ASK)))
        told = f"{', '.join(found.quorum)} in quorum, led by {found.leader or 'nobody'}"
        return yes(told) if wanted <= set(found.quorum) and found.leader else no(told)

    return Condition(f"mons {', '.join(sorted(wanted))} are in quorum", ask)
