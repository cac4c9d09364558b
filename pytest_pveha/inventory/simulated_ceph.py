"""The Ceph of a simulated site."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.storage import Ceph
from pytest_pveha.inventory.values import Label, PositiveDuration, Size

Copies = Annotated[int, Field(ge=1, le=7)]
Domain = Literal["osd", "host", "room"]


class SimulatedPool(Block):
    """A pool of the simulated Ceph. What it does not say is as the cluster's."""

    name: Label
    """Its name. An rbd storage lies on the pool that is called as it, else on the first one."""
    pgs: Annotated[int, Field(ge=1, le=32768)] | None = None
    """Placement groups."""
    size: Copies | None = None
    """Copies of everything."""
    min_size: Copies | None = None
    """Copies without which nothing is served."""
    failure_domain: Domain | None = None
    """What its CRUSH rule keeps apart."""


class SimulatedCeph(Block):
    """How the simulated Ceph is set."""

    osds_per_node: Annotated[int, Field(ge=1, le=64)] = 2
    """OSDs on every node."""
    osd_bytes: Size = 960_000_000_000
    """How much each OSD holds."""
    size: Copies = 3
    """Copies of everything, each in a failure domain of its own."""
    min_size: Copies = 2
    """Copies without which nothing is served."""
    failure_domain: Domain = "host"
    """What the CRUSH rules keep apart."""
    mons: Annotated[int, Field(ge=1, le=9)] = 5
    """On so many nodes stand a mon and a manager, at most."""
    pgs: Annotated[int, Field(ge=1, le=32768)] = 128
    """Placement groups of each pool."""
    pools: tuple[SimulatedPool, ...] = ()
    """Pools; none = one for every rbd storage, called as it."""
    release: Literal["pacific", "quincy", "reef", "squid", "tentacle"] | None = None
    """Ceph release to play; none = squid on PVE 9, reef before."""
    fill: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """The part of the OSDs that is used at the beginning."""
    recovery: Size = 100 * 2**20
    """What one placement group is copied at in a second."""
    down_out: PositiveDuration = 600.0
    """mon_osd_down_out_interval."""
    one_network: bool = False
    """true = there is no cluster network of its own."""


def ceph_spec(simulated: SimulatedCeph, ceph: Ceph) -> dict[str, Any]:
    """The Ceph as the simulator is told of it; stretch mode where the block `ceph` names a tiebreaker."""
    plain = simulated.model_dump(exclude={"pools", "release", "recovery", "down_out"})
    return plain | {
        "pools": [pool.model_dump(exclude_none=True) for pool in simulated.pools],
        "release": simulated.release or "",
        "recovery_mib": simulated.recovery / 2**20,
        "down_out_seconds": simulated.down_out,
        "stretch": ceph.stretch_tiebreaker is not None,
        "tiebreaker": ceph.stretch_tiebreaker or "",
    }
