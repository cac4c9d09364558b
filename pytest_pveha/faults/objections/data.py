"""What Ceph would have left, and whether it could make that whole again."""

from __future__ import annotations

from pytest_pveha.faults.fault import Reach
from pytest_pveha.faults.objections.state import State
from pytest_pveha.faults.objections.words import gib, listed
from pytest_pveha.handles.ceph.status import whole

STOPPING_FLAGS = frozenset(
    {"noout", "noin", "nodown", "noup", "norecover", "nobackfill", "norebalance", "pause", "pauserd", "pausewr"}
)
"""Ceph's flags that keep it from healing, or from noticing (ceph(8), osd set)."""


def clean(state: State, reach: Reach) -> str | None:
    if state.ceph is None or state.ceph.clean:
        return None
    pgs = ", ".join(f"{count} {name}" for name, count in sorted(state.ceph.pgs.items()) if not whole(name))
    if not reach.degraded:
        why = state.ceph.unsure or pgs or "none is told of"
        return f"Ceph: not all placement groups are active+clean ({why}); wait until they are"
    if state.ceph.prediction is not None and state.ceph.prediction.serves:
        return None  # copies are lacking because of us, and by its maps those that are left suffice
    told = state.ceph.prediction.in_words if state.ceph.prediction else "its maps could not be read"
    return f"Ceph: with what is broken already ({pgs}), what would be left does not suffice: {told}"


def flags(state: State, reach: Reach) -> str | None:
    if state.ceph is None or not (found := sorted((state.ceph.flags & STOPPING_FLAGS) - reach.flags)):
        return None
    return f"Ceph: {', '.join(found)} is set, so it would not heal itself; `ceph osd unset {found[0]}`, if it is yours"


def stoppable(state: State, reach: Reach) -> str | None:
    if state.ceph is None or not state.ceph.osds or reach.about_quorum:
        return None  # a cut of corosync leaves Ceph alone; if nodes are to be reset, that is what was agreed to: losses
    osds = " ".join(str(osd) for osd in state.ceph.osds)
    of = f"of {listed(reach.nodes)}" if reach.nodes else "together"
    if state.ceph.ok_to_stop is None:
        return f"Ceph: whether OSDs {osds} {of} may stop cannot be told: {state.ceph.said}"
    if not state.ceph.ok_to_stop:
        return f"Ceph: `ceph osd ok-to-stop {osds}` (all {of}) says no: {state.ceph.said}"
    return None


def room(state: State, reach: Reach) -> str | None:
    """What is rebuilt must not fill the OSDs that are left: at the full ratio nobody can write any more."""
    if state.ceph is None or not state.ceph.osds or reach.about_quorum:
        return None
    found, limit = state.ceph.prediction, state.ceph.backfillfull
    if found is None:
        return "Ceph: its maps could not be read, so it cannot be told what would be left; `ceph osd dump` on a node"
    if not found.rebuild_bytes or found.fullest < limit:
        return None
    return (
        f"Ceph: rebuilding {gib(found.rebuild_bytes)} of OSDs {' '.join(map(str, state.ceph.osds))} would fill the "
        f"fullest of the others to {found.fullest:.0%}, and at {limit:.0%} the rebuild stops; make room first"
    )


def mons(state: State, reach: Reach) -> str | None:
    if state.ceph is None or reach.about_quorum:
        return None
    lost = reach.nodes | reach.mons
    every = {mon for mons in state.ceph.mons.values() for mon in mons}
    hit = {mon for node, mons in state.ceph.mons.items() if node in lost for mon in mons}
    left, needed = len(state.ceph.in_quorum - hit), max(len(every), len(state.ceph.in_quorum)) // 2 + 1
    if not hit or left >= needed:
        return None
    return (
        f"Ceph: {len(state.ceph.in_quorum)} mons in quorum − {len(hit & state.ceph.in_quorum)} of {listed(lost)} "
        f"= {left}, and {needed} of {len(every)} are needed: no data would be served"
    )
