"""Ceph's nouns: pools, placement groups, OSDs and mons. Data only; others make it move."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_pveha.sim.timeline import Event
from pytest_pveha.sim.world.ceph.crush import CrushRule

FLAGS = (
    "nobackfill", "nodeep-scrub", "nodown", "noin", "noout", "norebalance", "norecover", "noscrub", "notieragent",
    "noup", "pause",
)  # fmt: skip
"""The flags that can be set on the whole cluster, in PVE's order."""


@dataclass(eq=False, slots=True)
class Pool:
    """A pool of replicated objects."""

    number: int
    name: str
    size: int
    min_size: int
    rule: CrushRule
    application: str = "rbd"
    busy: bool = True
    """Whether somebody writes to it all the time."""
    groups: list[Group] = field(default_factory=list)
    unserved: set[Group] = field(default_factory=set)
    """Its placement groups that are not active."""

    @property
    def bytes(self) -> int:
        """What clients have stored in it."""
        return sum(group.bytes for group in self.groups)

    @property
    def objects(self) -> int:
        """So many objects are in it."""
        return sum(group.objects for group in self.groups)


@dataclass(eq=False, slots=True)
class Job:
    """One placement group being copied: by its log to OSDs that were away, or as a backfill to new ones."""

    targets: tuple[int, ...]
    backfill: bool
    begun: int
    """0 while it waits."""
    source: int = -1
    seconds: float = 0.0
    lacking: dict[int, int] = field(default_factory=dict)
    """Objects that each target lacked when it began."""
    event: Event | None = None
    too_full: bool = False


@dataclass(eq=False, slots=True)
class Group:
    """A placement group. Moments are ns of the world's time."""

    pool: Pool
    number: int
    objects: int
    bytes: int
    up: tuple[int, ...] = ()
    acting: tuple[int, ...] = ()
    held: dict[int, int] = field(default_factory=dict)
    """Which OSDs have a copy, and how many of its objects each lacks there."""
    left: dict[int, int] = field(default_factory=dict)
    """Since when an OSD with a copy takes no part in writes."""
    partial: set[int] = field(default_factory=set)
    """Those whose copy was begun by a backfill and is not whole: no log can mend it."""
    fresh: frozenset[int] = frozenset()
    """Those that took part in the last writes: what was acknowledged is on one of them."""
    peering: bool = False
    stuck: bool = False
    """Whether nobody who took part in the last writes is there: it is down."""
    unserved_since: int = 0
    """Since when it has not been active; 0 while it is."""
    undersized_since: int = 0
    changed: int = 0
    """Since when it is in its present state."""
    state: str = "active+clean"
    job: Job | None = None

    @property
    def name(self) -> str:
        """As Ceph calls it: the pool's number, and its own in hexadecimal."""
        return f"{self.pool.number}.{self.number:x}"

    @property
    def active(self) -> bool:
        """Whether it serves."""
        return not self.peering and not self.stuck and len(self.acting) >= self.pool.min_size

    @property
    def undersized(self) -> bool:
        """Whether fewer OSDs act for it than there should be copies."""
        return len(self.acting) < self.pool.size

    def degraded_objects(self) -> int:
        """Copies that are not there of its objects."""
        lacking = sum(self.held.get(osd, 0) for osd in self.acting)
        holes = max(0, self.pool.size - len(self.acting))
        begun = [self.objects - self.held.get(osd, self.objects) for osd in self.up if osd not in self.acting]
        return holes * self.objects + lacking - sum(begun[:holes])

    def misplaced_objects(self) -> int:
        """Copies that are there, and are to lie elsewhere."""
        return 0 if self.undersized else sum(self.held.get(osd, self.objects) for osd in set(self.up) - {*self.acting})


@dataclass(eq=False, slots=True)
class Osd:
    """An OSD: what the map says of it. Whether its daemon runs, its unit says."""

    number: int
    host: str
    bytes: int
    uuid: str
    up: bool = True
    weight: float = 1.0
    """0 while it is out."""
    auto_out: bool = False
    """Whether the mons took it out by themselves, and will take it in again."""
    flags: set[str] = field(default_factory=set)
    """noout and the like for this one alone."""
    up_from: int = 1
    down_at: int = 0
    """The map's epoch when it was last called down."""
    changed: int = 0
    """When it was last called up or down, ns."""
    used: int = 0
    """Bytes of copies on it."""
    groups: set[Group] = field(default_factory=set)
    """Those for which it is up or acts."""
    fault: str = ""
    """Why it does not answer though it is called up: refused or silent."""
    watching: str = ""
    """By what the mons will notice: reports or beacons."""
    noticed: Event | None = None
    """When that is reported by enough others."""
    returning: Event | None = None
    starting: bool = False
    """Whether its daemon still reads its store, and listens nowhere."""
    rejoins: bool = False
    """Whether it was called down while it ran."""
    slow_until: int = 0
    """Until when its daemon still complains of slow requests."""
    sources: int = 0
    sinks: int = 0
    """Copies under way from it and to it."""

    @property
    def is_in(self) -> bool:
        """Whether data is to lie on it."""
        return self.weight > 0

    @property
    def name(self) -> str:
        """osd.N."""
        return f"osd.{self.number}"

    @property
    def unit(self) -> str:
        """The systemd unit of its daemon."""
        return f"ceph-osd@{self.number}"

    @property
    def fullness(self) -> float:
        """The part of it that is used."""
        return self.used / self.bytes


@dataclass(eq=False, slots=True)
class Mon:
    """A mon. ``node`` is empty for one on a machine outside, which never dies."""

    name: str
    rank: int
    node: str
    address: str
    room: str = ""

    @property
    def unit(self) -> str:
        """The systemd unit of its daemon."""
        return f"ceph-mon@{self.name}"
