"""Placement groups: who is up and acts for each, how they peer, and the state that follows.

A change of the map touches the groups of the OSDs it is about, and nobody counts them all at each question. Source:
Ceph's documentation on peering, placement group states and pg_temp; the order of a state's words is Ceph's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.ceph.model import Group

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

_LOG = 3000
"""Objects written while an OSD was away up to which its copy is mended by the log alone (osd_min_pg_log_entries)."""
_HANDED_OVER = (0.01, 0.05)
"""Peering when a backfill is over: one group alone, whose data is where it is to be."""
_DIRTIED = 0.02
"""Distinct objects of a placement group that clients write to in a second, where they write at all."""


class Groups:
    """The placement groups of one cluster."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self.states: Counter[str] = Counter()
        self.degraded = self.misplaced = self.copies = 0
        """Copies that lack, that lie wrongly, and that there should be."""
        self._counted: dict[Group, tuple[str, int, int]] = {}

    def __iter__(self) -> Iterator[Group]:
        for pool in self._ceph.pools.values():
            yield from pool.groups

    def begin(self) -> None:
        """Every copy is where it belongs."""
        for group in self:
            group.up = group.acting = self._chosen(group)
            group.held = dict.fromkeys(group.acting, 0)
            group.fresh = frozenset(group.acting)
            for number in group.acting:
                osd = self._ceph.osds[number]
                osd.groups.add(group)
                osd.used += group.bytes
            self.copies += group.pool.size * group.objects
            self.count(group)

    # the map has changed

    def remap(self, groups: Iterable[Group], seconds: float) -> None:
        """These groups look who is up for them now; those for whom it changed peer for so long."""
        ordered = sorted(set(groups), key=lambda group: (group.pool.number, group.number))
        peering = [group for group in ordered if self._follow(group)]
        if peering:
            peered = self._ceph.world.timeline.now + round(seconds * SECOND)
            marks = [(group, (group.up, group.acting)) for group in peering]
            self._ceph.world.timeline.at(peered, lambda: self._peered(marks), "placement groups have peered")

    def _chosen(self, group: Group) -> tuple[int, ...]:
        osds = self._ceph.osds
        key = group.pool.number << 20 | group.number
        raw = self._ceph.crush.chosen(key, group.pool.rule, group.pool.size, lambda osd: osds[osd].is_in)
        return tuple(osd for osd in raw if osds[osd].up)

    def _follow(self, group: Group) -> bool:
        """Whether the group has to peer anew."""
        up = self._chosen(group)
        acting = self._acting(group, up)
        if (up, acting) == (group.up, group.acting):
            return False
        now = self._ceph.world.timeline.now
        self._ceph.recovery.stop(group)
        for number in {*group.acting} - {*acting} & group.held.keys():
            group.left.setdefault(number, now)
        for number in {*group.up, *group.acting} - {*up, *acting}:
            self._ceph.osds[number].groups.discard(group)
        group.up, group.acting, group.peering = up, acting, True
        for number in {*up, *acting}:
            self._ceph.osds[number].groups.add(group)
        self._unserved(group)
        self.count(group)
        return True

    def _acting(self, group: Group, up: tuple[int, ...]) -> tuple[int, ...]:
        """Those up that have a copy which the log can mend, and others with a whole one, until there are enough."""
        usable = [osd for osd in up if osd in group.held.keys() - group.partial and self._mendable(group, osd)]
        whole = any(group.held[osd] == 0 and osd in group.fresh for osd in usable)
        if len(usable) == len(up) and (whole or not usable):
            return up
        others = [
            osd
            for osd in (*group.acting, *sorted(group.held))
            if osd not in up and self._ceph.osds[osd].up and group.held.get(osd) == 0 and osd in group.fresh
        ]
        found = list(dict.fromkeys(others))
        acting = [*usable, *found] if whole else [*found[:1], *usable, *found[1:]]  # one has it all, if anybody does
        return tuple(acting[: group.pool.size]) or up

    def _mendable(self, group: Group, osd: int) -> bool:
        return group.held[osd] + self._dirtied(group, osd) <= _LOG

    def _dirtied(self, group: Group, osd: int) -> int:
        """Objects that were written while that OSD took no part."""
        if (since := group.left.get(osd)) is None or osd in group.fresh or not group.pool.busy:
            return 0
        seconds = (self._ceph.world.timeline.now - since) / SECOND
        return min(group.objects, round(seconds * _DIRTIED) + 1)

    # peering

    def peer_at_once(self) -> None:
        """Whoever peers has done so."""
        for group in self:
            if group.peering:
                self._settle(group)
        self._ceph.recovery.pump()
        self._ceph.io.follow()

    def judge_anew(self) -> None:
        """How many copies have to be there is another number: who was not served may be, and the other way round."""
        for group in self:
            if group.peering:
                continue
            if group.active and group in group.pool.unserved:
                self._settle(group)
            elif not group.active and group not in group.pool.unserved:
                self._unserved(group)
            self.count(group)

    def _peered(self, marks: list[tuple[Group, tuple[tuple[int, ...], tuple[int, ...]]]]) -> None:
        for group, mark in marks:
            if group.peering and (group.up, group.acting) == mark and not self._hangs(group):
                self._settle(group)
        self._ceph.recovery.pump()
        self._ceph.io.follow()

    def _hangs(self, group: Group) -> bool:
        """Whether a defect keeps it from peering: of its copies two are gone, or more."""
        return self._ceph.world.planted("second-loss-hangs") and len(group.acting) <= group.pool.size - 2

    def _settle(self, group: Group) -> None:
        """Peering is over: the group serves if enough are there, and what they lack is known."""
        group.peering = False
        group.stuck = not group.fresh & {*group.acting} or not self._whole(group)
        if not group.stuck:
            for number in group.acting:
                if number not in group.held:
                    continue
                self.copied(group, number, min(group.objects, group.held[number] + self._dirtied(group, number)))
                group.left.pop(number, None)
        if group.active:
            members = frozenset(osd for osd in group.acting if osd in group.held)
            now = self._ceph.world.timeline.now
            for number in group.held.keys() - members:
                group.left.setdefault(number, now)
            group.fresh, group.unserved_since = members, 0
            group.pool.unserved.discard(group)
        self.count(group)
        self._ceph.recovery.want(group)

    def _whole(self, group: Group) -> bool:
        """Whether what any of those acting lacks, another one has."""
        return any(group.held.get(osd) == 0 and osd in group.fresh for osd in group.acting)

    def _unserved(self, group: Group) -> None:
        group.pool.unserved.add(group)
        group.unserved_since = group.unserved_since or self._ceph.world.timeline.now

    # recovery tells

    def copied(self, group: Group, osd: int, lacking: int) -> None:
        """That OSD's copy lacks only so many objects now."""
        had = group.objects - group.held.get(osd, group.objects)
        self._ceph.osds[osd].used += round(group.bytes * (group.objects - lacking - had) / max(1, group.objects))
        group.held[osd] = lacking

    def complete(self, group: Group) -> None:
        """Whoever is up has everything: they act from now on, and copies elsewhere go."""
        if group.up != group.acting:
            self.remap([group], self._ceph.rng.uniform(*_HANDED_OVER))
            return
        if not group.undersized:
            for number in group.held.keys() - {*group.acting}:
                self.drop(group, number)
        self.count(group)

    def drop(self, group: Group, osd: int) -> None:
        """That OSD's copy is deleted."""
        lacking = group.held.pop(osd, group.objects)
        group.partial.discard(osd)
        group.left.pop(osd, None)
        self._ceph.osds[osd].used -= round(group.bytes * (group.objects - lacking) / max(1, group.objects))

    # what is said of them

    def count(self, group: Group) -> None:
        """The group's state is taken anew, and the sums follow."""
        state = _state(group)
        now = self._ceph.world.timeline.now
        if state != group.state:
            group.state, group.changed = state, now
        if not group.undersized:
            group.undersized_since = 0
        elif not group.undersized_since:
            group.undersized_since = now
        new = (state, group.degraded_objects(), group.misplaced_objects())
        if (old := self._counted.get(group)) == new:
            return
        if old is not None:
            self.states[old[0]] -= 1
            if not self.states[old[0]]:
                del self.states[old[0]]
            self.degraded, self.misplaced = self.degraded - old[1], self.misplaced - old[2]
        self.states[new[0]] += 1
        self.degraded, self.misplaced = self.degraded + new[1], self.misplaced + new[2]
        self._counted[group] = new
        self._ceph.digest.note()


def _state(group: Group) -> str:
    """The state's words, in Ceph's order."""
    if not group.acting:
        return group.state if group.state.startswith("stale+") else f"stale+{group.state}"
    remapped = group.up != group.acting
    if group.peering:
        return "remapped+peering" if remapped else "peering"
    if group.stuck:
        return "down+remapped" if remapped else "down"
    degraded = group.degraded_objects() > 0
    words = ["active"] if group.active else []
    if group.active and not (degraded or group.undersized or remapped):
        words.append("clean")
    job, copying = group.job, ""
    if job is not None:
        kind = "backfill" if job.backfill else "recovery"
        going = {"backfill": "backfilling", "recovery": "recovering"}[kind]
        copying = going if job.begun else f"{kind}_toofull" if job.too_full else f"{kind}_wait"
    if copying and job is not None and not job.backfill:
        words.append(copying)
    words += ["undersized"] * group.undersized + ["degraded"] * degraded + ["remapped"] * remapped
    if copying and job is not None and job.backfill:
        words.append(copying)
    return "+".join(words if group.active else [*words, "peered"])
