"""Recovery: what lacks is copied, a few placement groups at a time, at a speed; and what that costs.

An OSD takes part in one copy as the source and in one as the target (osd_max_backfills 1). Flags hold it up, and so
does a target that is too full. Source: Ceph's documentation, osd_max_backfills, backfillfull_ratio, osd set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world.ceph.model import Group, Job

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph

_MIB = 1 << 20
_AT_ONCE = 1
_LEAST = 0.2
"""Seconds that even the smallest copy takes."""
_STARVED = 20
"""How many times as much copies cost clients' writes where a defect lets them."""
_QUIET, _LOADED = 2.0, 14.0
"""Milliseconds an OSD takes to commit a write, and while it copies (a disk's usual figures, not measured)."""


class Recovery:
    """The copying of one cluster."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self.waiting: dict[Group, None] = {}
        self.running: dict[Group, None] = {}

    @property
    def bytes_per_second(self) -> int:
        """What is being copied now."""
        return round(len(self.running) * self._rate())

    def objects_per_second(self) -> int:
        """Likewise, in objects."""
        return round(sum(self._rate() / max(1.0, group.bytes / max(1, group.objects)) for group in self.running))

    def latency_ms(self, osd: int) -> int:
        """How long that OSD takes to commit a client's write."""
        one = self._ceph.osds[osd]
        return round(_LOADED if one.sources or one.sinks else _QUIET)

    def want(self, group: Group) -> None:
        """The group has peered: whatever it lacks is entered."""
        if group.stuck or not group.acting:
            return
        lacking = tuple(osd for osd in group.acting if group.held.get(osd, 0))
        new = tuple(osd for osd in group.up if osd not in group.acting and group.held.get(osd) != 0)
        if not lacking and not new:
            self._ceph.groups.complete(group)
            return
        group.job = Job(lacking or new, not lacking, 0)
        self.waiting[group] = None
        self._ceph.groups.count(group)

    def stop(self, group: Group) -> None:
        """The group's copying is over or held up; what was done of it is not lost."""
        job = group.job
        self.waiting.pop(group, None)
        if job is None:
            return
        group.job = None
        if job.begun:
            self._account(group, job)
            self._release(group, job)
            self.burden()

    def account(self) -> None:
        """What has been copied until now is there."""
        for group in list(self.running):
            if group.job is not None:
                self._account(group, group.job)
                self._ceph.groups.count(group)

    def pump(self) -> None:
        """Whatever may begin, begins."""
        for group in sorted(self.waiting, key=lambda group: (group.active, len(group.acting))):
            job = group.job
            if job is not None and self._may(group, job):
                self._begin(group, job)
        self.burden()

    def burden(self) -> None:
        """Clients' writes share the OSDs with the copies, as long as any are made."""
        added = (_LOADED - _QUIET) / 1000
        if self._ceph.world.planted("rebuild-starves-clients"):
            added *= _STARVED
        self._ceph.io.drag(added if self.running else 0.0)

    def held_up(self) -> None:
        """A flag has changed: what it forbids stops, what it forbade goes on."""
        for group in list(self.running):
            if group.job is not None and self._forbidden(group, group.job):
                self.stop(group)
                self.want(group)
        self.pump()

    # one copy

    def _may(self, group: Group, job: Job) -> bool:
        osds = self._ceph.osds
        full = any(osds[osd].fullness >= self._ceph.ratios["backfillfull"] for osd in job.targets)
        if full != job.too_full:
            job.too_full = full
            self._ceph.groups.count(group)
        if full or self._forbidden(group, job):
            return False
        free = all(osds[osd].sinks < _AT_ONCE for osd in job.targets)
        return free and osds[group.acting[0]].sources < _AT_ONCE

    def _forbidden(self, group: Group, job: Job) -> bool:
        flags = self._ceph.flags
        if "norecover" in flags and not job.backfill:
            return True
        stalled = self._ceph.world.planted("recovery-never-ends")
        rebalance = "norebalance" in flags and not group.degraded_objects()
        return job.backfill and ("nobackfill" in flags or rebalance or stalled)

    def _rate(self) -> float:
        slow = 0.02 if self._ceph.world.planted("rebuild-too-slow") else 1.0
        return self._ceph.spec.recovery_mib * _MIB * slow

    def _begin(self, group: Group, job: Job) -> None:
        timeline = self._ceph.world.timeline
        del self.waiting[group]
        self.running[group] = None
        job.begun = timeline.now
        job.lacking = {osd: group.held.get(osd, group.objects) for osd in job.targets}
        size = sum(job.lacking.values()) * group.bytes / max(1, group.objects)
        job.seconds = max(_LEAST, size / self._rate())
        job.event = timeline.after(job.seconds, lambda: self._end(group, job), f"{group.name} is copied")
        job.source = group.acting[0]
        self._ceph.osds[job.source].sources += 1
        for osd in job.targets:
            self._ceph.osds[osd].sinks += 1
        self._ceph.groups.count(group)

    def _release(self, group: Group, job: Job) -> None:
        if job.event is not None:
            job.event.cancel()
        self.running.pop(group, None)
        self._ceph.osds[job.source].sources -= 1
        for osd in job.targets:
            self._ceph.osds[osd].sinks -= 1

    def _account(self, group: Group, job: Job) -> None:
        """What was copied until now is there."""
        part = min(1.0, (self._ceph.world.timeline.now - job.begun) / SECOND / job.seconds)
        for osd, lacking in job.lacking.items():
            self._ceph.groups.copied(group, osd, max(1, round(lacking * (1 - part))))
            if job.backfill:
                group.partial.add(osd)

    def _end(self, group: Group, job: Job) -> None:
        self._release(group, job)
        group.job = None
        for osd in job.targets:
            self._ceph.groups.copied(group, osd, 0)
            group.left.pop(osd, None)
            group.partial.discard(osd)
        self.want(group)
        self.pump()
        self._ceph.stretch.follow()
        self._ceph.io.follow()
