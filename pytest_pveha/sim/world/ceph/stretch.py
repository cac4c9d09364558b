"""Stretch mode: two rooms with half of the copies each, and a tiebreaker mon.

When all of a room is down, half of the copies are enough to serve; when it is back and everything is recovered, that is
over. Source: Ceph's documentation ("Stretch clusters"); seen on Pacific: degraded_stretch_mode 30.5 s after the cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

_SECONDS = (1.0, 4.0)
"""From the last OSD's being called down until the mons have made up their minds."""


class Stretch:
    """The stretch mode of one cluster, where it has one."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self.degraded = self.recovering = False
        self._min_sizes = {pool.name: pool.min_size for pool in ceph.pools.values()}

    def follow(self) -> None:
        """The map has changed, or something was recovered."""
        ceph = self._ceph
        if not ceph.spec.stretch:
            return
        lost = self._lost_rooms()
        if len(lost) == 1 and not self.degraded and ceph.mons.working():
            self.degraded, self.recovering = True, False
            seconds = ceph.rng.uniform(*_SECONDS)
            ceph.world.timeline.after(seconds, self._halve, "half of the copies are enough")
        elif not lost and self.degraded:
            self.degraded, self.recovering = False, True
        if self.recovering and not ceph.groups.degraded:
            self.recovering = False
            self._set({name: size for name, size in self._min_sizes.items()})

    def _lost_rooms(self) -> set[str]:
        crush = self._ceph.crush
        up = {place.room for number, place in crush.places.items() if self._ceph.osds[number].up}
        return crush.rooms().keys() - up

    def _halve(self) -> None:
        if self.degraded:
            self._set({name: max(1, size // 2) for name, size in self._min_sizes.items()})

    def _set(self, sizes: dict[str, int]) -> None:
        ceph = self._ceph
        for name, size in sizes.items():
            ceph.pools[name].min_size = size
        ceph.new_epoch()
        ceph.world.truth("stretch", {"degraded": self.degraded, "recovering": self.recovering})
        ceph.groups.judge_anew()
        ceph.changed_map()
