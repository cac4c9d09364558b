"""What the mons know of the placement groups: as the active manager last told them.

The OSDs tell the manager, and it tells the mons every few seconds; without an active manager the old word stands.
Measured on Pacific: states of placement groups lag by seconds. Source: mgr_stats_period 5 s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_pveha.clock import SECOND

if TYPE_CHECKING:
    from pytest_pveha.sim.timeline import Event
    from pytest_pveha.sim.world.ceph.cluster import Ceph

_PERIOD = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Row:
    """A placement group that is not as it should be, as it was told of."""

    name: str
    state: str
    acting: tuple[int, ...]
    unserved_since: int
    undersized_since: int
    idle: bool


@dataclass(frozen=True, slots=True)
class Told:
    """One report of the manager's."""

    at: int
    states: Counter[str]
    degraded: int = 0
    misplaced: int = 0
    copies: int = 0
    rows: tuple[Row, ...] = ()
    recovering_bytes: int = 0
    recovering_objects: int = 0
    epoch: int = 0
    """Of the map that it is about."""
    placed: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    """Placement group → who was up and who acted for it."""


class Digest:
    """The manager's reports of one cluster. Nothing happens while nothing changes."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self._phase = round(ceph.rng.uniform(0, 5) * SECOND)
        self._pending: Event | None = None
        self.told = Told(0, Counter())

    def begin(self) -> None:
        """All is told."""
        if self._pending is not None:
            self._pending.cancel()
        self._take()

    def note(self) -> None:
        """Something has changed that the next report will say."""
        if self._pending is None:
            now = self._ceph.world.timeline.now
            due = now + _PERIOD - (now - self._phase) % _PERIOD
            self._pending = self._ceph.world.timeline.at(due, self._take, "the manager tells of placement groups")

    def _take(self) -> None:
        self._pending = None
        ceph = self._ceph
        if not (ceph.managers.works and ceph.mons.working()):
            return  # whoever takes over notes that there is something to tell
        groups, recovery = ceph.groups, ceph.recovery
        recovery.account()
        rows = tuple(
            Row(
                group.name,
                group.state,
                group.acting,
                group.unserved_since,
                group.undersized_since,
                not group.pool.busy,
            )
            for group in groups
            if group.state != "active+clean"
        )
        self.told = Told(
            ceph.world.timeline.now,
            Counter(groups.states),
            groups.degraded,
            groups.misplaced,
            groups.copies,
            rows,
            recovery.bytes_per_second,
            recovery.objects_per_second(),
            ceph.epoch,
            {group.name: (group.up, group.acting) for group in groups},
        )
        ceph.progress.follow()
        if recovery.running or recovery.waiting:
            self.note()
