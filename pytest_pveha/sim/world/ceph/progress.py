"""The manager's progress events: what is under way, and how far it is (ceph progress, module progress)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, uuid5

if TYPE_CHECKING:
    from pytest_pveha.sim.world.ceph.cluster import Ceph


@dataclass(slots=True)
class _Event:
    message: str
    at: int
    most: int = 0
    part: float = 0.0


class Progress:
    """The events of one cluster."""

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph
        self.events: dict[str, _Event] = {}

    def begin(self, message: str) -> None:
        """Something is under way until nothing lacks or lies wrongly any more."""
        now = self._ceph.world.timeline.now
        number = str(uuid5(NAMESPACE_OID, f"{self._ceph.fsid}/{message}/{now}"))
        self.events[number] = _Event(message, now, self._lacking())

    def follow(self) -> None:
        """The manager looks how far it all is."""
        lacking = self._lacking()
        for number, event in list(self.events.items()):
            event.most = max(event.most, lacking)
            event.part = 1.0 - lacking / event.most if event.most else 1.0
            if not lacking:
                del self.events[number]

    def _lacking(self) -> int:
        return self._ceph.groups.degraded + self._ceph.groups.misplaced
