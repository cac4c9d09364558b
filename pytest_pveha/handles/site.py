"""The whole site: every handle, made once from an inventory."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_pveha.clock import Clock
from pytest_pveha.handles.ceph import Ceph
from pytest_pveha.handles.cluster import Cluster
from pytest_pveha.handles.guest import Guests, Nodes
from pytest_pveha.handles.layout import Layout


@dataclass(frozen=True, slots=True)
class Site:
    """What a run can talk to, and the clock it does that by."""

    name: str
    simulated: bool
    clock: Clock
    cluster: Cluster
    ceph: Ceph
    nodes: Nodes
    guests: Guests
    has_ceph: bool = False
    """Whether the inventory has Ceph in scope."""
    layout: Layout = field(default_factory=Layout)
    """Where it all stands, as the inventory tells."""

    def close(self) -> None:
        """Every connection and child process has ended."""
        for node in self.nodes:
            node.close()
