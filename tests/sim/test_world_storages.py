"""Storages of the simulated world: who lies where, and when writes hung."""

from __future__ import annotations

import pytest

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.ceph_spec import CephSpec
from pytest_pveha.sim.spec import GuestSpec, NodeSpec, SiteSpec
from pytest_pveha.sim.world.replication import Job
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
    spec = SiteSpec("s", "c", (NodeSpec("pve1", 1),), (GuestSpec(101, "a", "pve1"),), ceph=CephSpec())
    assert (spec.default_storage, spec.every_storage["ceph-vm"].kind) == ("ceph-vm", "rbd")


def test_only_zfs_is_replicated() -> None:
    """A job for a guest that lies elsewhere is refused, with the storage's name."""
    nodes, guests = [{"name": "pve1", "nodeid": 1}], [{"vmid": 101, "name": "a", "node": "pve1"}]
    jobs = [{"guest": "vm:101", "target": "pve1"}]
    with pytest.raises(ValueError, match="storage 'shared' is not of kind zfs"):
        SiteSpec.from_json({"name": "s", "cluster": "c", "nodes": nodes, "guests": guests, "replication": jobs})


NFS = {"name": "vault", "kind": "nfs", "server": "10.99.7.7"}
ISCSI = {"name": "san", "kind": "iscsi", "server": "10.99.7.8", "path_timeout": 60.0}


def test_a_silent_server_stalls_guests_until_it_is_back() -> None:
    """A hard NFS mount waits for ever: the guest's writes hang, none is refused, and it goes on after the return."""
    site = Site(guest(101, "pve1"), storages=[NFS])
    one, began = site.world.guests[101], site.timeline.now
    site.world.storages.server_dies("vault")
    site.play(400)
    assert site.world.storages.stalls(one) == ((began, None),)
    site.world.storages.server_returns("vault")
    site.play(130)
    ((since, until),) = site.world.storages.stalls(one)
    assert since == began
    assert until is not None
    assert 400 * SECOND <= until - began <= 520 * SECOND
    assert site.world.storages.refusals(one) == ()
    assert site.healthy()


def test_tcp_makes_a_stall_longer_than_the_cut() -> None:
    """The next packet after a cut of 30 s is sent 51 s after its begin (0.2 s doubled each time)."""
    site = Site(guest(101, "pve1"), storages=[NFS])
    one, began = site.world.guests[101], site.timeline.now
    site.world.storages.server_dies("vault")
    site.play(30)
    site.world.storages.server_returns("vault")
    site.play(60)
    ((_, until),) = site.world.storages.stalls(one)
    assert until is not None
    assert (until - began) / SECOND == pytest.approx(51.0, abs=0.01)


@pytest.mark.parametrize(
    ("storage", "patience"),
    [(ISCSI, 60.0), ({**NFS, "soft": True, "timeo": 100, "retrans": 2}, 30.0)],
    ids=["iscsi", "soft-nfs"],
)
def test_past_the_path_timeout_guests_are_read_only(storage: dict[str, object], patience: float) -> None:
    """When the path's timeout is over, writes fail: the guest is read-only until it starts anew, server or not."""
    site = Site(guest(101, "pve1"), storages=[storage])
    storages, one, began = site.world.storages, site.world.guests[101], site.timeline.now
    storages.server_dies(str(storage["name"]))
    site.play(patience + 60)
    storages.server_returns(str(storage["name"]))
    site.play(130)
    assert storages.stalls(one) == ((began, began + round(patience * SECOND)),)
    assert storages.refusals(one) == ((began + round(patience * SECOND), None),)
    site.world.kill_guest(101, "pve1")
    assert storages.refusals(one)[-1][1] == site.timeline.now
    site.play(60)
    assert site.healthy()


def test_a_shorter_silence_than_the_path_timeout_costs_nothing() -> None:
    """Below the path's timeout the guest stalls and goes on."""
    site = Site(guest(101, "pve1"), storages=[ISCSI])
    one = site.world.guests[101]
    site.world.storages.server_dies("san")
    site.play(30)
    site.world.storages.server_returns("san")
    site.play(60)
    ((since, until),) = site.world.storages.stalls(one)
    assert until is not None
    assert 30 * SECOND < until - since < 33 * SECOND
    assert site.world.storages.refusals(one) == ()


def test_no_guest_starts_where_its_storage_is_not_online() -> None:
    """A guest whose node dies while the server is silent cannot be started before the server is back."""
    site = Site(guest(101, "pve1"), guest(102, "pve2"), guest(103, "pve3"), storages=[NFS])
    site.world.storages.server_dies("vault")
    site.cut("pve1")
    site.play(300)
    assert site.running(101) == []
    assert site.said("start failed: storage 'vault' is not online")


def test_pvestatd_waits_for_silent_servers() -> None:
    """With a silent NFS server the node's numbers come every 20 s instead of every ten, and its journal says why."""
    site = Site(guest(101, "pve1"), storages=[NFS])
    site.world.storages.server_dies("vault")
    begin = site.now
    site.play(120)
    told = site.said("status update time (10.300 seconds)", since=begin, on="pve1")
    assert 5 <= len(told) <= 7


# --- replication -----------------------------------------------------------------------------------------------------

ZFS = {"name": "local-zfs", "kind": "zfs"}
ON_REPLICAS = {"name": "r", "affinity": "node", "guests": ["vm:101"], "nodes": ["pve1", "pve2"], "strict": True}


def replicated(*, defects: tuple[str, ...] = (), rules: bool = True, **job: object) -> Site:
    """A site with a guest on pve1 that is replicated to pve2 every 15 minutes."""
    return Site(
        guest(101, "pve1", storage="local-zfs"),
        guest(102, "pve2"),
        guest(103, "pve3"),
        storages=[ZFS],
        replication=[{"guest": "vm:101", "target": "pve2", **job}],
        rules=[ON_REPLICAS] if rules else [],
        defects=list(defects),
    )


def told(site: Site, node: str) -> list[dict[str, object]]:
    """What that node says of its jobs."""
    return [site.world.replication.told(job, site.world.nodes[node]) for job in _jobs(site, node)]


def _jobs(site: Site, node: str) -> list[Job]:
    return site.world.replication.on(site.world.nodes[node])


def test_jobs_run_by_their_schedule() -> None:
    """Each quarter of an hour the copy is of that moment, and the source says so."""
    site = replicated()
    before = site.world.replication.copies[101, "pve2"]
    site.play(1000)
    after = site.world.replication.copies[101, "pve2"]
    assert after.epoch - before.epoch == 900
    (job,) = told(site, "pve1")
    assert (job["last_sync"], job["fail_count"], job["next_sync"]) == (after.epoch, 0, after.epoch + 900)
    assert told(site, "pve2") == []


def test_failover_starts_from_the_last_sync_and_the_job_turns_round() -> None:
    """The guest runs on at the replica's node with what the last sync held; its job goes back when the node does."""
    site = replicated()
    site.play(400)
    one, copy = site.world.guests[101], site.world.replication.copies[101, "pve2"]
    site.cut("pve1")
    site.play(300)
    assert site.running(101) == ["pve2"]
    ((kept, at),) = site.world.storages.losses(one)
    assert (kept, site.world.storages.kept(one)) == (copy.at, copy.at)
    assert at > kept
    (job,) = told(site, "pve2")
    assert (job["source"], job["target"], job["last_sync"]) == ("pve2", "pve1", 0)
    assert "ssh" in str(job["error"])
    site.power_on("pve1")
    site.play(1200)
    (job,) = told(site, "pve2")
    assert job["fail_count"] == 0
    assert job["last_sync"]


def test_a_guest_is_not_started_where_no_replica_is() -> None:
    """Without a rule HA may choose a node that has nothing, and then the guest does not start there."""
    site = Site(
        guest(101, "pve1", storage="local-zfs"),
        *(guest(vmid, "pve2") for vmid in (102, 103, 104)),
        storages=[ZFS],
        replication=[{"guest": "vm:101", "target": "pve2"}],
    )
    site.cut("pve1")
    site.play(400)
    assert site.said("cannot open 'rpool/data/vm-101-disk-0': dataset does not exist", on="pve3")


def test_a_failing_job_is_tried_less_and_less() -> None:
    """After the first failure it is tried 5 minutes later, then 10, then 15, and only while the target is there."""
    site = replicated()
    site.cut("pve2")
    site.play(1000)
    (job,) = told(site, "pve1")
    assert (job["fail_count"], job["next_sync"]) == (1, 0)
    site.power_on("pve2")
    site.play(180)
    (job,) = told(site, "pve1")
    assert (job["fail_count"], job.get("error")) == (0, None)


def test_a_disabled_job_is_silent() -> None:
    """A job that is switched off does not run, and does not fail either."""
    site = replicated(disable=True)
    before = site.world.replication.copies[101, "pve2"]
    site.play(2000)
    assert site.world.replication.copies[101, "pve2"] == before
    (job,) = told(site, "pve1")
    assert (job["fail_count"], job["disable"]) == (0, 1)


def test_migration_to_the_replica_turns_the_job_round_without_loss() -> None:
    """A guest that moves to its replica's node takes its job's state along, and loses nothing."""
    site = replicated()
    site.command("migrate vm:101 pve2")
    site.play(60)
    assert site.running(101) == ["pve2"]
    (job,) = told(site, "pve2")
    assert (job["target"], job["fail_count"]) == ("pve1", 0)
    assert job["last_sync"]
    assert site.world.storages.losses(site.world.guests[101]) == ()
