"""Replicated guests before a fault: where they run, what their jobs say, and by which clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.handles.guest import Guest, Guests
from pytest_pveha.handles.node import ClockOffset
from pytest_pveha.handles.replication import Snapshot, Status


@dataclass(frozen=True, slots=True)
class Told:
    """What the node that runs a guest says of its jobs."""

    home: str
    jobs: tuple[Status, ...]
    clock: ClockOffset
    """Of that node: its jobs' and snapshots' times are by it."""


class Replicas(Guests):
    """Guests that are replicated, with what was told of them before anything was broken."""

    told: Mapping[str, Told]
    """By service id."""
    read_at: Instant

    def __new__(
        cls,
        members: Iterable[Guest],
        told: Mapping[str, Told] = MappingProxyType({}),
        read_at: Instant | None = None,
    ) -> Replicas:
        found = super().__new__(cls, members)
        assert isinstance(found, Replicas)
        found.told = told
        if read_at is not None:
            found.read_at = read_at
        return found

    @property
    def homes(self) -> Mapping[str, str]:
        """Service id → the node it ran on."""
        return {sid: one.home for sid, one in self.told.items()}

    def targets(self, sid: str) -> frozenset[str]:
        """The nodes to which that guest is replicated."""
        return frozenset(job.target for job in self.told[sid].jobs)

    def last_sync(self, sid: str) -> int:
        """When that guest's last good sync began, as its node said before the fault; the newest of its jobs."""
        return max((job.last_sync for job in self.told[sid].jobs), default=0)

    def before(self, found: Iterable[Snapshot], moment: int) -> tuple[Snapshot, ...]:
        """Those that may have been made before that moment (mono ns)."""
        known = {int(sid.partition(":")[2]): sid for sid in self.told}
        return tuple(one for one in found if one.vmid in known and self._bounds(known[one.vmid], one)[0] <= moment)

    def _bounds(self, sid: str, snapshot: Snapshot) -> tuple[int, int]:
        """Between which moments (mono ns) it was made: whole seconds, cut off, of the clock of the guest's node."""
        clock, now = self.told[sid].clock, self.read_at
        ours = now.mono + round((snapshot.created - clock.offset - now.utc / SECOND) * SECOND)
        error = round(clock.error * SECOND)
        return ours - error, ours + SECOND + error

    def note(self, write: Callable[[str, dict[str, Any]], object], sid: str, node: str, snapshot: Snapshot) -> None:
        """On record: the copy that the guest started from, and between which moments (mono ns) its data is from."""
        low, high = self._bounds(sid, snapshot)
        what = {"what": f"replica/{sid}@{node}", "old": str(self.last_sync(sid)), "new": str(snapshot.epoch)}
        source = f"{snapshot.volume} by the clock of {self.told[sid].home}"
        write("seen", {**what, "low": low, "high": high, "source": source})
