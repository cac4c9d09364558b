"""The blocks about data: Ceph, shared storages, backup, replication. Each present = its tests are in scope."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.secrets import SecretRef
from pytest_pveha.inventory.values import (
    Address,
    FilePath,
    Fingerprint,
    GuestId,
    Label,
    NodeName,
    Port,
    PositiveDuration,
    Slug,
    StorageId,
    TokenId,
)


class Ceph(Block):
    """Hyper-converged Ceph on the nodes."""

    pools: tuple[Label, ...] = ()
    """Pools that hold guests' disks; empty = all."""
    failure_domain: Literal["host", "chassis", "rack", "row", "room", "datacenter"] = "host"
    """What the CRUSH rules promise to lose without losing data."""
    stretch_tiebreaker: Label | None = None
    """Stretch mode only: name of the tiebreaker mon."""


class Pbs(Block):
    """The Proxmox Backup Server itself, to read the snapshots' verify state and owner."""

    server: Address
    """Its address."""
    port: Port = 8007
    """Its port."""
    datastore: StorageId
    """Datastore on it."""
    namespace: Label | None = None
    """Namespace within; none = the root."""
    token_id: TokenId
    """Id of an API token there that may read the datastore."""
    token_secret: SecretRef
    """Where that token's secret comes from."""
    ca_file: FilePath | None = None
    """CA certificate of the server; or fingerprint."""
    fingerprint: Fingerprint | None = None
    """SHA-256 fingerprint of its certificate."""
    confirmed_outside: Label | None = None
    """Who made sure that it is no guest of this cluster, where that cannot be seen from its nodes."""


class Restore(Block):
    """How restore tests are made."""

    ids: tuple[Annotated[int, Field(ge=100)], Annotated[int, Field(ge=100)]]
    """First and last guest number that restores may use: one that is free is taken, and given back."""
    storage: StorageId
    """Storage the disks are restored to."""
    node: NodeName | None = None
    """Node to restore on; none = the one with most free memory."""
    live: bool = False
    """true = also try live-restore, of VMs."""
    checksum_file: Label | None = None
    """File inside the guest whose checksum must be as in the running one."""


class Backup(Block):
    """Backups of the guests."""

    storage: StorageId
    """Storage of type pbs that holds them."""
    tiers: tuple[Slug, ...] = ()
    """Tiers whose guests must be backed up; empty = all."""
    max_age: PositiveDuration = 93600.0
    """Oldest that a guest's newest backup may be (26 h: daily, with two hours' slack)."""
    pbs: Pbs | None = None
    """The server itself; without it, verify state and owner are taken from what PVE shows."""
    restore: Restore | None = None
    """How restore tests are made; without it they are not proven."""


class SharedStorage(Block):
    """An NFS or iSCSI storage that a machine outside of the cluster serves to all nodes."""

    redundant: bool = False
    """true = somebody knows that no single machine, switch or cable behind it takes it away."""


class Replication(Block):
    """ZFS storage replication between nodes."""

    guests: tuple[GuestId, ...] = ()
    """Guests that must be replicated; empty = all that have jobs."""
    max_age: PositiveDuration = 1800.0
    """Oldest that a replica may be (30 min: twice the default schedule)."""
    manual_failover: bool = False
    """true = failover is by a person, following the runbook (replication between sites)."""
