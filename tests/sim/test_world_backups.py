"""The simulated backup server and what is restored from it: what stands where, when, and after whatever broke it."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_pveha.sim.world.configs import config_of
from pytest_pveha.sim.world.model import Refused, Task
from pytest_pveha.sim.world.pbs import KEPT
from tests.sim.ha_kit import Site, guest

OPTIONS = {
    "storage": "local-lvm",
    "unique": "1",
    "net0": "virtio,bridge=vmbr0,link_down=1",
    "onboot": "0",
    "tags": "pveha-1",
}


def lab(*defects: str, **backup: Any) -> Site:
    """A VM and a container whose backups are kept."""
    return Site(
        guest(101, "pve1"),
        guest(102, "pve2", kind="ct"),
        backup={"storage": "pbs1", **backup},
        defects=list(defects),
    )


def restore(site: Site, vmid: int = 101, **more: str) -> Task:
    """A restore of that guest's newest backup to 9000 on pve2 has begun."""
    world = site.world
    newest = next(one for one in world.pbs.snapshots if one.vmid == vmid)
    archive = f"pbs1:backup/{newest.name}"
    options = {**OPTIONS, "archive": archive, **more}
    if newest.kind == "ct":
        options["net0"] = "name=eth0,bridge=vmbr0,link_down=1"
    upid = world.restores.begin(world.nodes["pve2"], newest.kind, 9000, archive, options, "pveha@pve!run")
    return next(task for task in world.nodes["pve2"].tasks if task.upid == upid)


def test_each_guest_has_backups_of_several_days() -> None:
    """The newest is as old as was said, the others a day each older; all verified, none encrypted."""
    site = lab(age_hours=6.0)
    mine = [one for one in site.world.pbs.snapshots if one.vmid == 101]
    assert [mine[0].time - one.time for one in mine] == [86400 * number for number in range(KEPT)]
    assert site.world.spec.epoch_utc - mine[0].time == 6 * 3600
    assert {(one.verification, one.fingerprint) for one in mine} == {("ok", "")}


@pytest.mark.parametrize(("vmid", "kind"), [(101, "qmrestore"), (102, "vzrestore")])
def test_a_restore_makes_a_guest_of_its_own(vmid: int, kind: str) -> None:
    """Meanwhile a locked stub; at the end the backup's configuration with what was asked for, and other addresses."""
    site = lab()
    task = restore(site, vmid)
    assert task.type == kind
    copy, original = site.world.guests[9000], config_of(site.world, site.world.guests[vmid])
    site.play(10)
    assert config_of(site.world, copy) == {"memory": "128", "lock": "create"}
    site.play(60)
    made = config_of(site.world, copy)
    assert task.exitstatus == "OK"
    assert "link_down=1" in made["net0"]
    assert made["tags"] == "pveha-1"
    assert made["memory"] == original["memory"]
    if vmid == 101:
        assert made["net0"].split(",")[0] != original["net0"].split(",")[0]
        assert made["smbios1"] != original["smbios1"]
        assert "progress 100% (read 8589934592 bytes" in "\n".join(task.log)
    assert list(site.world.restores.volumes) != []
    assert config_of(site.world, site.world.guests[vmid]) == original


def test_a_restored_guest_starts_stops_and_goes() -> None:
    """Its agent answers after a boot; destroyed, it leaves neither number nor disk."""
    site = lab()
    restore(site)
    site.play(60)
    world = site.world
    world.start_guest(9000)
    site.play(40)
    assert world.guests[9000].agent_up
    with pytest.raises(Refused, match="VM 9000 is running - destroy failed"):
        world.restores.destroy(world.guests[9000], "u")
    world.stop_guest(9000)
    site.play(5)
    world.restores.destroy(world.guests[9000], "u", purge=True)
    site.play(5)
    assert 9000 not in world.guests
    assert world.restores.volumes == {}


def test_a_live_restore_runs_before_it_is_whole() -> None:
    """The guest runs while its disk is still read, and goes with its backup server."""
    site = lab(speed_mib=50.0)
    restore(site, **{"live-restore": "1", "start": "1"})
    site.play(30)
    assert site.running(9000) == ["pve2"]
    site.world.pbs.go()
    site.play(30)
    assert site.running(9000) == []


def test_a_killed_restore_leaves_its_lock() -> None:
    """Nobody destroys what is left until root has unlocked it; then its disk goes though no configuration names it."""
    site = lab()
    task = restore(site)
    site.play(10)
    world = site.world
    copy = world.guests[9000]
    with pytest.raises(Refused, match="got timeout"):
        world.restores.destroy(copy, "u")
    world.restores.kill(task)
    site.play(60)
    assert task.exitstatus == "interrupted by signal"
    with pytest.raises(Refused, match=r"VM is locked \(create\)"):
        world.restores.destroy(copy, "u")
    world.restores.unlock(copy)
    world.restores.destroy(copy, "u", purge=True, unreferenced=True)
    site.play(5)
    assert 9000 not in world.guests
    assert world.restores.volumes == {}


def test_a_node_that_dies_in_mid_restore_leaves_its_lock() -> None:
    """After its boot the stub is there, locked, and its task ended as nobody knows how."""
    site = lab()
    task = restore(site)
    site.play(10)
    site.cut("pve2")
    site.power_on("pve2")
    site.play(60)
    assert task.exitstatus == "unexpected status"
    assert config_of(site.world, site.world.guests[9000])["lock"] == "create"
    assert not site.world.restores.running(9000)


@pytest.mark.parametrize(
    ("defect", "said"),
    [
        ("pbs-gone-in-mid-restore", "connection reset by peer"),
        ("backup-corrupt", "wrong CRC checksum"),
        ("restore-key-missing", "missing key - manifest was created with key"),
        ("backup-owner-wrong", "backup owner check failed"),
    ],
)
def test_a_failed_restore_leaves_a_stub_without_a_lock(defect: str, said: str) -> None:
    """The log says why; what was done stays, and can be destroyed."""
    site = lab(defect)
    task = restore(site)
    site.play(90)
    assert said in "\n".join(task.log)
    assert "state is NOT cleaned up" in "\n".join(task.log)
    assert str(task.exitstatus).startswith("unable to restore VM 9000")
    assert config_of(site.world, site.world.guests[9000]) == {"memory": "128"}


def test_a_lock_that_stays_keeps_the_guest_from_starting() -> None:
    """A restore that ended well and did not unlock: the guest cannot start."""
    site = lab("restore-leaves-lock")
    task = restore(site)
    site.play(60)
    assert task.exitstatus == "OK"
    site.world.start_guest(9000)
    site.play(5)
    assert site.world.nodes["pve2"].tasks[-1].exitstatus == "VM is locked (create)"


def test_a_number_in_use_is_refused() -> None:
    """A restore never touches what is there."""
    site = lab()
    archive = f"pbs1:backup/{site.world.pbs.snapshots[0].name}"
    with pytest.raises(Refused, match="VM 102 already exists on node 'pve2'"):
        site.world.restores.begin(site.world.nodes["pve2"], "vm", 102, archive, OPTIONS, "u")


def test_a_server_that_is_a_guest_goes_with_it() -> None:
    """A backup server inside of the cluster answers only while its guest does."""
    site = lab(guest=101)
    assert site.world.pbs.answering
    assert all(one.vmid != 101 for one in site.world.pbs.snapshots)
    site.cut("pve1")
    assert not site.world.pbs.answering
