"""One OSD as a daemon on a node."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OsdDaemon:
    """An OSD and where its daemon runs."""

    id: int
    node: str
    up_from: int = 0
    """Since which epoch of the map it was up when it was looked at."""

    @property
    def name(self) -> str:
        """``osd.N``, as Ceph calls it."""
        return f"osd.{self.id}"

    @property
    def unit(self) -> str:
        """The unit by which systemd runs it."""
        return osd_unit(self.id)


def osd_unit(osd: int) -> str:
    """The unit of that OSD."""
    return f"ceph-osd@{osd}"
