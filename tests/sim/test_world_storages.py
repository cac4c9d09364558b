"""Storages of the simulated world: who lies where, and when writes hung."""

from __future__ import annotations

import pytest

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.spec import GuestSpec, NodeSpec, SiteSpec
from tests.sim.ha_kit import Site, guest


def test_a_guest_lies_on_the_shared_storage_unless_it_says_so() -> None:
    """Without a word a guest's disk is on the site's shared storage; a local one is each node's own."""
    site = Site(guest(101, "pve1"), guest(102, "pve2", storage="local-lvm"))
    storages, guests = site.world.storages, site.world.guests
    assert (storages.of(guests[101]).name, storages.of(guests[101]).shared) == ("shared", True)
    assert (storages.of(guests[102]).name, storages.of(guests[102]).shared) == ("local-lvm", False)
    assert {one.name: one.kind for one in storages} == {"local": "dir", "local-lvm": "lvm", "shared": "nfs"}


def test_a_stall_lasts_until_its_last_reason_is_gone() -> None:
    """Two reasons at once are one stall, and one that goes on has no end."""
    site = Site(guest(101, "pve1"))
    shared = site.world.storages["shared"]
    began = site.timeline.now
    shared.stall("the server is silent")
    site.play(10)
    shared.stall("a switch is down")
    shared.resume("the server is silent")
    site.play(10)
    assert shared.stalls == ((began, None),)
    shared.resume("a switch is down")
    assert shared.stalls == ((began, began + 20 * SECOND),)
    assert not shared.stalled


def test_with_ceph_guests_lie_on_rbd() -> None:
    """On a site with Ceph and no other storage named the shared one is Ceph's."""
    spec = SiteSpec("s", "c", (NodeSpec("pve1", 1),), (GuestSpec(101, "a", "pve1"),), ceph=True)
    assert (spec.default_storage, spec.every_storage["ceph-vm"].kind) == ("ceph-vm", "rbd")


def test_only_zfs_is_replicated() -> None:
    """A job for a guest that lies elsewhere is refused, with the storage's name."""
    nodes, guests = [{"name": "pve1", "nodeid": 1}], [{"vmid": 101, "name": "a", "node": "pve1"}]
    jobs = [{"guest": "vm:101", "target": "pve1"}]
    with pytest.raises(ValueError, match="storage 'shared' is not of kind zfs"):
        SiteSpec.from_json({"name": "s", "cluster": "c", "nodes": nodes, "guests": guests, "replication": jobs})
