"""Hyper-converged Ceph: as PVE's REST API tells it, and as its own tool on a node does."""

from pytest_pveha.handles.ceph.api import Ceph, CephDaemons
from pytest_pveha.handles.ceph.status import CephStatus, serves

__all__ = ["Ceph", "CephDaemons", "CephStatus", "serves"]
