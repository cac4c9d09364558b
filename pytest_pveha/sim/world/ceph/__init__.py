"""The simulated Ceph: mons, managers, OSDs, placement groups and what clients feel of them."""

from pytest_pveha.sim.world.ceph.cluster import Ceph
from pytest_pveha.sim.world.ceph.model import FLAGS, Group, Mon, Osd, Pool

__all__ = ["FLAGS", "Ceph", "Group", "Mon", "Osd", "Pool"]
