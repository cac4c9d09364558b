"""The whole site: every handle, made once from an inventory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_pveha.clock import Clock
from pytest_pveha.handles.agent import Inside
from pytest_pveha.handles.backups import Backups
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.cluster import Cluster
from pytest_pveha.handles.cluster_lease import FOLDER, ON_ONE_NODE
from pytest_pveha.handles.copies import Copies
from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.hand import Hand
from pytest_pveha.handles.layout import Layout
from pytest_pveha.handles.pbs import Pbs
from pytest_pveha.handles.replication import Replication
from pytest_pveha.handles.storages import Storages


@dataclass(frozen=True, slots=True)
class Site:
    """What a run can talk to, and the clock it does that by."""

    name: str
    simulated: bool
    clock: Clock
    cluster: Cluster
    ceph: Ceph
    storages: Storages
    replication: Replication
    nodes: Nodes
    guests: Guests
    inside: Callable[[str, str], Inside]
    """The way into a guest on that node: ``site.inside("vm:101", "pve1")``, HA or not."""
    copies: Copies
    """Guests that are made from backups."""
    backups: Backups | None = None
    """None where the inventory has no block ``backup``."""
    pbs: Pbs | None = None
    """The backup server itself, where the inventory says how to ask it."""
    served: Mapping[str, bool] = field(default_factory=dict)
    """The shared storages that the inventory names, and whether it calls each redundant."""
    replica_age: float | None = None
    """Seconds that a replica may be old; None where the inventory has no replication in scope."""
    replicated: frozenset[str] = frozenset()
    """Guests that must be replicated; none named: all that have jobs."""
    has_ceph: bool = False
    """Whether the inventory has Ceph in scope."""
    layout: Layout = field(default_factory=Layout)
    """Where it all stands, as the inventory tells."""
    switch_hands: Mapping[str, Hand] = field(default_factory=dict)
    """Switch → who takes it off the network, where the inventory names somebody."""
    ceph_networks: Mapping[str, str] = field(default_factory=dict)
    """``public`` and ``cluster`` → that network's addresses, like 192.0.2.0/24, where the inventory declares them."""

    @property
    def lease_on(self) -> Nodes:
        """The nodes of which any that answers keeps the lease of the cluster."""
        return self.nodes if self.cluster.proxmox else Nodes(list(self.nodes)[:1])

    @property
    def lease_folder(self) -> str:
        """Where on them."""
        return FOLDER if self.cluster.proxmox else ON_ONE_NODE

    def close(self) -> None:
        """Every connection and child process has ended."""
        for node in self.nodes:
            node.close()
