"""Storages: which guest's disk lies where, when writes to it hung, and what of them is still there after a failover.

Nothing here is an event per write: whoever wants to know what was written reads the intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_pveha.sim.spec import StorageSpec
from pytest_pveha.sim.world.model import Guest

if TYPE_CHECKING:
    from pytest_pveha.sim.world.world import World

Stall = tuple[int, int | None]
"""Since when writes hung and until when, ns; None while they still do."""


class Storage:
    """One storage of the cluster, as its guests feel it."""

    def __init__(self, world: World, spec: StorageSpec) -> None:
        self._world = world
        self.spec = spec
        self.name = spec.name
        self.kind = spec.kind
        self.shared = spec.shared
        self.stalls: tuple[Stall, ...] = ()
        self._reasons: set[str] = set()

    @property
    def stalled(self) -> bool:
        """Whether writes to it hang now."""
        return bool(self._reasons)

    def stall(self, reason: str = "") -> None:
        """Writes to it hang from now on, until every reason is gone."""
        if not self._reasons:
            self.stalls += ((self._world.timeline.now, None),)
            self._world.truth("storage_stalls", {"storage": self.name, "reason": reason})
        self._reasons.add(reason)

    def resume(self, reason: str = "") -> None:
        """That reason is gone; without another one writes go on."""
        if reason not in self._reasons:
            return
        self._reasons.discard(reason)
        if not self._reasons:
            self.stalls = (*self.stalls[:-1], (self.stalls[-1][0], self._world.timeline.now))
            self._world.truth("storage_resumes", {"storage": self.name})


class Storages:
    """Every storage of one world, by name."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._named = {name: Storage(world, spec) for name, spec in world.spec.every_storage.items()}
        self._losses: dict[int, tuple[tuple[int, int], ...]] = {}

    def __getitem__(self, name: str) -> Storage:
        return self._named[name]

    def __iter__(self) -> Iterator[Storage]:
        return iter(self._named.values())

    def of(self, guest: Guest) -> Storage:
        """The storage that guest's disk lies on."""
        return self._named[guest.spec.storage or self._world.spec.default_storage]

    def stalls(self, guest: Guest) -> tuple[Stall, ...]:
        """When that guest's writes hung, wherever it ran."""
        return self.of(guest).stalls

    def refusals(self, guest: Guest) -> tuple[Stall, ...]:
        """When that guest's writes were refused, as its file system was read-only after errors of its disk."""
        return ()

    def losses(self, guest: Guest) -> tuple[tuple[int, int], ...]:
        """Spans (kept until, started from that at; ns) whose acknowledged writes a failover to a copy has lost."""
        return self._losses.get(guest.vmid, ())

    def kept(self, guest: Guest) -> int:
        """Up to when what that guest acknowledged before its last failover is there (ns); now, if it lost nothing."""
        losses = self.losses(guest)
        return losses[-1][0] if losses else self._world.timeline.now
