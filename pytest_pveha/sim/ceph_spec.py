"""What the Ceph of a simulated site consists of."""

from __future__ import annotations

from dataclasses import dataclass

TIB = 1 << 40

RELEASES = {"pacific": "16.2.15", "quincy": "17.2.8", "reef": "18.2.7", "squid": "19.2.3", "tentacle": "20.2.0"}
"""Ceph's releases, and the version of each that is played."""
FAILURE_DOMAINS = ("osd", "host", "room")


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool. What is 0 or empty is as the cluster's."""

    name: str
    pgs: int = 0
    size: int = 0
    min_size: int = 0
    failure_domain: str = ""

    def __post_init__(self) -> None:
        if self.failure_domain not in ("", *FAILURE_DOMAINS):
            known = ", ".join(FAILURE_DOMAINS)
            raise ValueError(f"pool {self.name}: failure_domain {self.failure_domain!r} is unknown; known: {known}")
        if self.size and self.min_size > self.size:
            raise ValueError(f"pool {self.name}: min_size {self.min_size} is greater than size {self.size}")


@dataclass(frozen=True, slots=True)
class CephSpec:
    """A hyper-converged Ceph: the same number of equal OSDs on every node, mons and managers on the first ones."""

    osds_per_node: int = 2
    osd_bytes: int = 960_000_000_000
    size: int = 3
    min_size: int = 2
    failure_domain: str = "host"
    mons: int = 5
    """So many of the first nodes have a mon and a manager."""
    pgs: int = 128
    """Placement groups of each pool that does not say so."""
    pools: tuple[PoolSpec, ...] = ()
    """Empty: one for every rbd storage, called as that."""
    release: str = ""
    """Empty: the one that the Proxmox VE version came with."""
    fill: float = 0.3
    """How full the OSDs are at the beginning, on average."""
    recovery_mib: float = 100.0
    """What one placement group is copied at, MiB a second."""
    down_out_seconds: float = 600.0
    """mon_osd_down_out_interval."""
    one_network: bool = False
    """Whether there is no cluster network of its own."""
    stretch: bool = False
    """Stretch mode: two rooms with half of the copies each."""
    tiebreaker: str = ""
    """The mon that decides between the rooms: a node's name, or that of a machine outside."""

    def __post_init__(self) -> None:
        if self.failure_domain not in FAILURE_DOMAINS:
            known = ", ".join(FAILURE_DOMAINS)
            raise ValueError(f"ceph: failure_domain {self.failure_domain!r} is unknown; known: {known}")
        if self.release not in ("", *RELEASES):
            raise ValueError(f"ceph: release {self.release!r} is unknown; known: {', '.join(RELEASES)}")
        if self.min_size > self.size:
            raise ValueError(f"ceph: min_size {self.min_size} is greater than size {self.size}")
        if not 0 <= self.fill < 1:
            raise ValueError(f"ceph: fill {self.fill}; expected a part of 1")
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise ValueError("ceph: a pool's name is used twice")
        if self.stretch and not self.tiebreaker:
            raise ValueError("ceph: stretch mode needs a tiebreaker")
