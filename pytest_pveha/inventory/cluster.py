"""The blocks about the cluster as one thing: site, cluster, quorum device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from pytest_pveha.inventory.base import Block
from pytest_pveha.inventory.secrets import SecretRef
from pytest_pveha.inventory.values import (
    Address,
    ClusterName,
    Endpoint,
    FilePath,
    Fingerprint,
    Label,
    Port,
    Slug,
    TokenId,
    Version,
)


class SiteBlock(Block):
    """Which site this file describes."""

    name: Slug
    """Name of the site; the reports lie in reports/NAME."""
    version: Version | None = None
    """Declared Proxmox VE version, in quotes; the gate compares it with what the nodes run."""


class Api(Block):
    """How to reach the Proxmox VE API."""

    endpoints: tuple[Endpoint, ...] = ()
    """Addresses of the API, host or host:port (8006); at least two, for one of them will be lost in a test."""
    token_id: TokenId | None = None
    """Id of the API token, USER@REALM!NAME."""
    token_secret: SecretRef | None = None
    """Where the token's secret comes from."""
    ca_file: FilePath | None = None
    """CA certificate that signed the nodes' certificates (a copy of /etc/pve/pve-root-ca.pem); or fingerprints."""
    fingerprints: Mapping[Endpoint, Fingerprint] = Field(default_factory=dict)
    """SHA-256 fingerprint of each endpoint's certificate, in place of ca_file."""


class Cluster(Block):
    """The cluster under test."""

    name: ClusterName
    """Name of the cluster as `pvecm status` shows it; a run stops if the live one has another."""
    api: Api | None = None
    """How to reach the Proxmox VE API; the simulator supplies its own."""
    proxmox: bool = True
    """Whether the nodes run Proxmox VE; false: corosync alone, and what needs its API or HA is not proven."""


class QuorumDevice(Block):
    """The external vote (corosync-qdevice). Present = its tests are in scope."""

    host: Address
    """The machine that runs corosync-qnetd; never a guest of this cluster."""
    port: Port = 5403
    """TCP port of corosync-qnetd."""
    algorithm: Literal["ffsplit", "lms"] = "ffsplit"
    """How it votes: ffsplit (even node counts) or lms."""
    room: Label | None = None
    """Failure domain it stands in; a third one on stretched sites."""
    switch: Label | None = None
    """Physical switch it hangs on."""
