"""The whole inventory as one frozen model, and the Site that the rest of the package is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.cluster import Cluster, QuorumDevice, SiteBlock
from pytest_pveha.inventory.hardware import Feed, Network, Node, Switch
from pytest_pveha.inventory.people import Consent, Evidence, Organisation
from pytest_pveha.inventory.simulated import Simulator
from pytest_pveha.inventory.storage import Backup, Ceph, Replication, SharedStorage
from pytest_pveha.inventory.values import Label, NetworkName, NodeName, StorageId
from pytest_pveha.inventory.workload import Guest, Objectives, Waiver


class Inventory(Block):
    """One site: what it consists of, what it promises, and what may be done to it."""

    site: SiteBlock
    """Which site this file describes."""
    cluster: Cluster
    """The cluster under test and its API."""
    nodes: Annotated[Mapping[NodeName, Node], Field(min_length=1)]
    """The hypervisors, by the name PVE gives them."""
    networks: Mapping[NetworkName, Network] = Field(default_factory=dict)
    """What each network runs over: corosync0 to corosync7, ceph_public, ceph_cluster, guest, migration, bmc."""
    switches: Mapping[Label, Switch] = Field(default_factory=dict)
    """The switches that `networks` and `quorum_device` name, where a person may take them off the network."""
    feeds: Mapping[Label, Feed] = Field(default_factory=dict)
    """The power feeds that nodes hang on, where what is behind them is to be looked at."""
    guests: tuple[Guest, ...] = ()
    """The HA guests that matter."""
    objectives: Objectives
    """What is promised."""
    ceph: Ceph | None = None
    """Hyper-converged Ceph; absent = not applicable."""
    backup: Backup | None = None
    """Backups; absent = not applicable."""
    storages: Mapping[StorageId, SharedStorage] = Field(default_factory=dict)
    """NFS and iSCSI storages to be tested, by the name PVE gives them; absent = not applicable."""
    quorum_device: QuorumDevice | None = None
    """External vote; absent = not applicable."""
    replication: Replication | None = None
    """ZFS storage replication; absent = not applicable."""
    organisation: Organisation | None = None
    """Runbook, on-call team, re-validation; absent = not proven."""
    consent: Consent | None = None
    """Leave to break things; a real site without it is only looked at."""
    evidence: Evidence = Field(default_factory=Evidence)
    """Who signs, runs and accepts."""
    waivers: tuple[Waiver, ...] = ()
    """Tests that may fail for now."""
    simulator: Simulator | None = None
    """Present = the site is simulated."""

    def guest(self, guest_id: str) -> Guest | None:
        """The guest with that id."""
        return next((guest for guest in self.guests if guest.id == guest_id), None)
