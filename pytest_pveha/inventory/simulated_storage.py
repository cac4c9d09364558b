"""The storages of a simulated site, and which guests are replicated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.values import Address, GuestId, NodeName, PositiveDuration, StorageId


class SimulatedStorage(Block):
    """One storage of the simulated cluster."""

    type: Literal["rbd", "cephfs", "nfs", "iscsi", "zfs", "lvm", "dir"]
    """What it is; nfs, iscsi, rbd and cephfs are shared by all nodes, the others lie on each node."""
    server: Address | None = None
    """nfs, iscsi: address of the machine that serves it; 10.99.8.8 unless said."""
    soft: bool = False
    """nfs: true = mounted soft: a request that gets no answer fails in the end."""
    timeo: Annotated[int, Field(ge=1, le=6000)] = 600
    """nfs: tenths of a second until a request is sent again."""
    retrans: Annotated[int, Field(ge=0, le=100)] = 2
    """nfs: how often, until that is a major timeout."""
    path_timeout: PositiveDuration = 120.0
    """iscsi: node.session.timeo.replacement_timeout: how long the nodes wait for a lost path before writes fail."""


class SimulatedReplication(Block):
    """A replication job of the simulated cluster."""

    guest: GuestId
    """Guest on a storage of type zfs."""
    target: NodeName
    """Node it is replicated to."""
    minutes: Annotated[int, Field(ge=1, le=60)] = 15
    """Minutes from one run to the next."""
    seconds: PositiveDuration = 4.0
    """How long a run takes."""
    disable: bool = False
    """true = somebody switched the job off."""


def storages_spec(storages: Mapping[StorageId, SimulatedStorage]) -> list[dict[str, Any]]:
    """The storages as the simulator is told them."""
    return [
        {
            "name": name,
            "kind": one.type,
            "server": (one.server or "10.99.8.8") if one.type in ("nfs", "iscsi") else "",
            "soft": one.soft,
            "timeo": one.timeo,
            "retrans": one.retrans,
            "path_timeout": one.path_timeout,
        }
        for name, one in storages.items()
    ]


def replication_spec(jobs: Sequence[SimulatedReplication]) -> list[dict[str, Any]]:
    """The replication jobs as the simulator is told them."""
    return [job.model_dump() for job in jobs]
