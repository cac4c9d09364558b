"""What is planted in the simulated Ceph: each defect shows where its test looks for it, and nowhere else."""

from __future__ import annotations

import pytest

from pytest_pveha.sim.world.ceph.health import Health
from pytest_pveha.sim.world.ceph.wires import CLUSTER
from tests.sim.ceph_kit import CephSite


def planted(name: str, **changes: object) -> CephSite:
    """A site with that defect."""
    return CephSite(defects=[name], **changes)


def test_one_copy_is_enough_for_a_pool() -> None:
    """With min_size 1 two hosts' OSDs may go, and what is written then is lost with the third."""
    site = planted("pool-min-size-one")
    assert {pool.min_size for pool in site.ceph.pools.values()} == {1}
    for osd in (0, 1, 2, 3):
        site.systemctl(osd, "stop")
    site.play(10)
    assert not site.ceph.io.blocked
    site.systemctl(4, "stop")
    site.systemctl(5, "stop")
    for osd in (0, 1, 2, 3):
        site.systemctl(osd, "start")
    site.play(30)
    assert "down" in site.ceph.groups.states  # what was acknowledged last is on osd.4 and osd.5 alone


def test_copies_may_share_a_host() -> None:
    """The rule keeps OSDs apart alone: two copies lie on one host, and its loss stops them."""
    site = planted("copies-share-a-host")
    hosts = {group: [site.ceph.osds[osd].host for osd in group.acting] for group in site.ceph.groups}
    shared = [group for group, names in hosts.items() if len(set(names)) < len(names)]
    assert shared
    assert {rule.domain for rule in site.ceph.rules.values()} == {"osd"}
    site.power_off("pve3")
    site.play(40)
    assert "undersized+degraded+peered" in site.ceph.groups.states


def test_a_dead_cluster_network_takes_a_nodes_osds() -> None:
    """The last node's OSDs are called down from the beginning, and stay so over a reboot."""
    site = planted("ceph-cluster-network-dead")
    site.play(2)
    assert [osd.number for osd in site.ceph.osds.values() if not osd.up] == [4, 5]
    site.power_off("pve3")
    site.world.chassis("pve3", "on")
    site.play(200)
    assert not site.ceph.osds[4].up


def test_recovery_never_ends() -> None:
    """What is out is not rebuilt; what comes back is caught up with all the same, by the log."""
    site = planted("recovery-never-ends", ceph={"fill": 0.01})
    site.systemctl(0, "stop")
    site.play(7200)
    assert site.ceph.groups.states["active+undersized+degraded+remapped+backfill_wait"] > 0


def test_a_rebuild_too_slow() -> None:
    """It takes fifty times as long."""
    took = []
    for site in (planted("rebuild-too-slow", ceph={"fill": 0.003}), CephSite(ceph={"fill": 0.003})):
        site.systemctl(0, "stop")
        site.play(610)
        took.append(site.until(site.clean, 7200))
    assert took[0] > 20 * took[1]


def test_a_survivor_is_nearly_full() -> None:
    """No warning before; without its neighbour it has no room for what it should take."""
    site = planted("survivor-nearly-full")
    assert site.health() == {}
    site.systemctl(0, "stop")
    site.play(7200)
    assert site.ceph.osds[1].fullness >= 0.9
    assert any("backfill_toofull" in state for state in site.ceph.groups.states)
    assert {"OSD_BACKFILLFULL", "PG_BACKFILL_FULL"} <= site.health().keys()


def test_an_osd_flaps() -> None:
    """Started again it dies, until systemd gives up; started by hand it lasts in the end."""
    site = planted("osd-flaps")
    site.systemctl(0, "kill", "KILL")
    site.play(120)
    assert site.world.nodes["pve1"].units["ceph-osd@0"].failed
    assert len(site.stalled()) >= 4
    for _ in range(3):
        site.systemctl(0, "reset_failed")
        if not site.world.nodes["pve1"].units["ceph-osd@0"].active:
            site.systemctl(0, "start")
        site.play(60)
    assert site.ceph.osds[0].up


@pytest.mark.parametrize(("defect", "until"), [("osd-grace-too-long", 190), ("", 0)])
def test_silent_osds_are_waited_for_too_long(defect: str, until: float) -> None:
    """They are called down after minutes, and nothing is written meanwhile; those that are refused are not."""
    site = CephSite(defects=[defect] if defect else [])
    site.systemctl(0, "kill", "KILL")
    site.play(20)
    assert site.when("osd_down", osd=0) < 2
    cut = site.now
    site.ceph.network.set_link("pve3", CLUSTER, False)
    site.play(300)
    assert site.when("osd_down", osd=4) - cut > until
    assert (site.when("osd_down", osd=4) - cut < 30) is not bool(defect)
    assert (max(site.stalled()) > 190) is bool(defect)


def test_osds_that_are_cut_off_flap() -> None:
    """Over the public network they say that they are there, and are missed again: down three times in two minutes."""
    lost = []
    for site in (planted("cut-osds-flap"), CephSite()):
        site.ceph.network.set_link("pve3", CLUSTER, False)
        site.play(120)
        lost.append(sum(kind == "osd_down" and told["osd"] == 4 for _, kind, told in site.happened))
    assert lost[0] >= 3
    assert lost[1] == 1


@pytest.mark.parametrize("defect", ["second-loss-hangs", ""])
def test_a_second_loss_hangs(defect: str) -> None:
    """With one of four copies gone all are served; with two, which are enough, only where nothing is planted."""
    site = CephSite(5, defects=[defect] if defect else [], ceph={"size": 4})
    site.ceph.set_flag("noout", True)
    for host, served in (("pve1", True), ("pve2", not defect)):
        site.power_off(host)
        site.play(60)
        assert any("peering" in state for state in site.ceph.groups.states) is not served
        assert (site.ceph.io.blocked == {}) is served
    site.world.chassis("pve1", "on")
    site.until(lambda: not site.ceph.io.blocked, 200)


def test_a_rebuild_starves_clients() -> None:
    """Writes take a quarter of a second longer while copies are made, and 12 ms where nothing is planted."""
    added = []
    for site in (planted("rebuild-starves-clients", ceph={"fill": 0.003}), CephSite(ceph={"fill": 0.003})):
        site.systemctl(0, "stop")
        site.play(610)
        site.until(site.clean, 600)
        drags = site.world.storages[site.world.spec.default_storage].drags
        assert drags
        assert drags[-1][1] is not None  # over
        added.append({round(seconds, 3) for _, _, seconds in drags})
    assert added == [{0.24}, {0.012}]


def test_there_are_two_mons_only() -> None:
    """Nothing is wrong, and the loss of one of two stops every answer."""
    site = planted("two-mons-only")
    assert site.health() == {}
    site.world.systemd.stop(site.world.nodes["pve1"], "ceph-mon@pve1.service")
    site.play(20)
    assert not any(site.ceph.answers(node) for node in site.world.nodes.values())


def test_health_is_muted() -> None:
    """HEALTH_OK, with nothing served."""
    site = planted("health-muted")
    for osd in (0, 1, 2, 3):
        site.systemctl(osd, "stop")
    site.play(90)
    assert site.ceph.io.blocked
    assert "PG_AVAILABILITY" in site.health()
    assert Health(site.ceph).status() == "HEALTH_OK"
