"""Clients' reads and writes: which pools hang, and whose storages hang with them.

A placement group answers nothing while it peers or too few act for it, and none of its writes is acknowledged while an
OSD that acts for it is dead or cannot be heard by the others, until the map says so. A guest's disk lies on all of its
pool's groups, so one of them is enough to stall it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.ceph.model import Group, Pool

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

_COMPLAINT = 30.0
"""osd_op_complaint_time."""
_REASON = "ceph"


class Io:
    """What clients of one cluster see of it."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self.blocked: dict[str, int] = {}
        """Pools that answer nothing, and since when."""
        self._slow_until = 0

    def follow(self) -> None:
        """Something has changed: pools hang, or go on."""
        now = self._ceph.world.timeline.now
        hanging = self._hanging()
        for pool in self._ceph.pools.values():
            blocked = pool.name in hanging
            if blocked and pool.name not in self.blocked:
                self.blocked[pool.name] = now
                self._ceph.world.truth("pool_stalls", {"pool": pool.name})
            elif not blocked and (since := self.blocked.pop(pool.name, None)) is not None:
                self._ceph.world.truth("pool_resumes", {"pool": pool.name})
                if now - since >= _COMPLAINT * SECOND:
                    self._slow_until = now + round(self._ceph.rng.uniform(2.0, 6.0) * SECOND)
        for storage in self._ceph.storages():
            name = self._ceph.pool_of(storage).name
            (storage.stall if name in self.blocked else storage.resume)(_REASON)

    def drag(self, seconds: float) -> None:
        """Writes to the guests' storages take so much longer now."""
        for storage in self._ceph.storages():
            storage.drag(seconds)

    def slow_seconds(self) -> float:
        """For how long the oldest request has been waiting, if OSDs complain of it; else 0."""
        now = self._ceph.world.timeline.now
        waited = max((now - since for since in self.blocked.values()), default=0) / SECOND
        if waited > _COMPLAINT:
            return waited
        lingering = [osd for osd in self._ceph.osds.values() if osd.up and now < osd.slow_until]
        return _COMPLAINT + 1 if now < self._slow_until or lingering else 0.0

    def _hanging(self) -> set[str]:
        ceph = self._ceph
        if "pause" in ceph.flags:
            return set(ceph.pools)
        found = {pool.name for pool in ceph.pools.values() if pool.unserved}
        if any(osd.fullness >= ceph.ratios["full"] for osd in ceph.osds.values() if osd.up):
            return set(ceph.pools)
        for osd in ceph.osds.values():
            if osd.up and osd.fault:
                found |= {group.pool.name for group in osd.groups if osd.number in group.acting}
        return found | {pool.name for pool in ceph.pools.values() if self._parted(pool)}

    def _parted(self, pool: Pool) -> bool:
        """Whether some that act for one of its groups do not hear each other, though nobody misses them (yet)."""
        return self._ceph.network_parted() and any(self._apart(group) for group in pool.groups)

    def _apart(self, group: Group) -> bool:
        hosts = {self._ceph.osds[osd].host for osd in group.acting}
        return any(not self._ceph.hears(one, other) for one in hosts for other in hosts if one < other)
