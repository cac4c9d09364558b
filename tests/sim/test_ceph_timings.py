"""What a failure of Ceph costs, second by second: each row of what was measured on a real one (real-daemons.md, 3)."""

from __future__ import annotations

import pytest

from pytest_pveha.sim.world.ceph.wires import CLUSTER, PUBLIC
from pytest_pveha.sim.world.network import Chain, Rule, Table
from tests.sim.ceph_kit import CephSite

SEEDS = range(1, 6)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_osd_stalls_writes_for_two_seconds(seed: int) -> None:
    """Its peers are refused at once: down within 1.3 s, a stall of 2.1 to 2.5 s at worst, and systemd has it back.

    Not before its unit's RestartSec is over: 10 s.
    """
    site = CephSite(seed=seed)
    site.systemctl(1, "kill", "KILL")
    site.play(1.5)
    assert site.when("osd_down", osd=1) <= 1.3
    site.until(lambda: site.ceph.osds[1].up and site.clean(), 60)
    assert 10 < site.when("osd_up", osd=1) <= 20
    assert 1.0 <= site.stalled()[0] <= 2.6
    assert all(stall <= 2.6 for stall in site.stalled())


@pytest.mark.parametrize("seed", SEEDS)
def test_an_osd_that_is_stopped_says_so(seed: int) -> None:
    """It announces itself: writes hang for about a second, while its groups peer, and nothing starts it again."""
    site = CephSite(seed=seed)
    site.systemctl(1, "stop")
    site.play(30)
    assert site.when("osd_down", osd=1) <= 1.0
    assert [0.5 <= stall <= 1.3 for stall in site.stalled()] == [True]
    assert not site.ceph.osds[1].up
    assert site.health()["OSD_DOWN"] == "1 osds down"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_dies_is_missed_for_the_heartbeats_grace(seed: int) -> None:
    """OSDs are called down after 20 to 27 s; writes hang from the death on, 20 to 28 s in all; a third is degraded."""
    site = CephSite(seed=seed)
    dead = site.power_off("pve2")
    site.play(60)
    assert 20 <= site.when("osd_down", osd=2) - dead <= 27.2
    assert site.stalls()[0][0] == pytest.approx(dead, abs=0.2)
    assert [20 <= stall <= 28.2 for stall in site.stalled()] == [True]
    assert set(site.ceph.groups.states) == {"active+undersized+degraded"}
    assert site.ceph.groups.degraded / site.ceph.groups.copies == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_returns_costs_another_short_stall(seed: int) -> None:
    """Its units start with it, its OSDs are back some seconds later, and what changed meanwhile is copied."""
    site = CephSite(seed=seed)
    site.power_off("pve2")
    site.play(300)
    site.world.chassis("pve2", "on")
    site.until(lambda: site.world.nodes["pve2"].running, 80)
    booted = site.now
    site.until(lambda: all(osd.up for osd in site.ceph.osds.values()), 60)
    assert 8 <= site.now - booted <= 22
    site.until(lambda: not site.ceph.io.blocked, 10)
    degraded = site.ceph.groups.degraded
    site.until(site.clean, 120)
    assert 0 < degraded < site.ceph.groups.copies / 3
    assert all(stall <= 3.5 for stall in site.stalled()[1:])  # two OSDs, one after the other
    site.until(lambda: not site.health(), 60)


@pytest.mark.parametrize("seed", SEEDS)
def test_health_says_ok_while_the_cluster_network_is_cut(seed: int) -> None:
    """For some 20 to 26 s there is HEALTH_OK and no write is acknowledged; then the OSDs cut off are called down."""
    site = CephSite(seed=seed)
    site.ceph.network.set_link("pve3", CLUSTER, False)
    site.play(20)
    assert site.health() == {}
    assert site.stalls() == [(0.0, 20.0)]
    site.play(15)
    assert {osd.number for osd in site.ceph.osds.values() if not osd.up} == {4, 5}
    assert [20 <= stall <= 28.2 for stall in site.stalled()] == [True]
    assert site.ceph.mons.quorum == ("pve1", "pve2", "pve3")
    site.play(300)
    assert not site.ceph.osds[4].up  # it hears too few of the others to come back


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("networks", [(CLUSTER,), (PUBLIC, CLUSTER)])
def test_a_healed_cut_stalls_again_and_complaints_linger(seed: int, networks: tuple[str, ...]) -> None:
    """Writes hang for 5 to 8 s more when the OSDs rejoin; slow requests are complained of for a minute and longer."""
    site = CephSite(seed=seed)
    for network in networks:
        site.ceph.network.set_link("pve3", network, False)
    site.play(60)
    for network in networks:
        site.ceph.network.set_link("pve3", network, True)
    healed = site.now
    site.until(lambda: site.ceph.osds[5].up and site.clean(), 60)
    assert len(site.stalled()) == 2
    assert 5 <= site.stalled()[1] <= 8
    site.play(healed + 60 - site.now)
    assert "SLOW_OPS" in site.health()
    site.until(lambda: not site.health(), 60)


def test_below_min_size_health_counts_one_group_and_all_are_inactive() -> None:
    """With two hosts' OSDs gone nothing is served; health tells of the one idle group, and of all a minute later."""
    site = CephSite()
    site.world.timeline.run_until(1)
    for osd in (0, 1, 2, 3):
        site.world.systemd.mask(site.ceph.node(site.ceph.osds[osd]), f"ceph-osd@{osd}.service", runtime=True)
        site.systemctl(osd, "kill", "KILL")
    site.play(20)
    assert set(site.ceph.groups.states) == {"undersized+degraded+peered"}
    assert site.ceph.digest.told.states == {"undersized+degraded+peered": 129}
    assert "1 pg inactive" in site.health()["PG_AVAILABILITY"]
    site.play(70)
    assert "129 pgs inactive" in site.health()["PG_AVAILABILITY"]
    assert "SLOW_OPS" in site.health()
    for osd in (0, 1):
        site.world.systemd.unmask(site.ceph.node(site.ceph.osds[osd]), f"ceph-osd@{osd}.service")
        site.systemctl(osd, "start")
    site.until(lambda: not site.ceph.io.blocked, 30)
    assert site.stalled()[0] >= 90


def test_what_is_down_for_ten_minutes_is_out_and_rebuilt_on_the_host() -> None:
    """At 600 s the OSD is out, the other one of its host takes its data, and everything is clean without it."""
    site = CephSite()
    site.systemctl(1, "stop")
    site.play(595)
    assert site.ceph.osds[1].is_in
    assert not site.clean()
    site.play(15)
    assert not site.ceph.osds[1].is_in
    assert any("backfilling" in state for state in site.ceph.groups.states)
    assert any("Rebalancing after osd.1 marked out" in one.message for one in site.ceph.progress.events.values())
    site.until(site.clean, 7200)
    assert max(site.stalled()[2:]) <= 0.05  # moving data stalls nobody
    assert site.ceph.osds[0].used > 1.5 * site.ceph.osds[2].used
    site.systemctl(1, "start")
    site.until(lambda: site.ceph.osds[1].up, 20)
    assert site.ceph.osds[1].is_in  # whom the mons took out they take in again
    site.until(site.clean, 7200)


def test_noout_keeps_it_in_and_without_it_it_goes_at_once() -> None:
    """With the flag nothing is taken out; when it is unset what has been down for long enough goes out."""
    site = CephSite()
    site.ceph.set_flag("noout", True)
    site.systemctl(1, "stop")
    site.play(1000)
    assert site.ceph.osds[1].is_in
    assert site.health()["OSDMAP_FLAGS"] == "noout flag(s) set"
    site.ceph.set_flag("noout", False)
    assert not site.ceph.osds[1].is_in


@pytest.mark.parametrize(("per_node", "left"), [(4, 0), (5, 1)])
def test_marking_out_stops_at_three_quarters(per_node: int, left: int) -> None:
    """mon_osd_min_in_ratio, tested before each OSD: of three hosts one of four goes out whole, one of five not."""
    site = CephSite(ceph={"osds_per_node": per_node})
    site.power_off("pve3")
    site.play(800)
    assert sum(osd.is_in for osd in site.ceph.osds.values() if osd.host == "pve3") == left


def test_a_lost_room_is_never_taken_out() -> None:
    """mon_osd_down_out_subtree_limit: with the whole room down its OSDs stay in."""
    site = CephSite(nodes=4, rooms=("a", "b"), ceph={"size": 2, "min_size": 1, "mons": 1})
    site.power_off("pve2")
    site.power_off("pve4")
    site.play(900)
    assert all(osd.is_in for osd in site.ceph.osds.values())


def test_one_host_left_is_not_believed() -> None:
    """Two hosts have to say that an OSD is gone: where one is left, the mons wait for its beacons, 900 s."""
    site = CephSite()
    for osd in (0, 1):
        site.systemctl(osd, "stop")
    site.play(10)
    dead = site.power_off("pve2")
    site.play(120)
    assert site.ceph.osds[2].up
    assert site.stalls()[-1][0] == pytest.approx(dead, abs=0.2)
    site.play(800)
    assert not site.ceph.osds[2].up


def test_systemd_starts_an_osd_three_times() -> None:
    """Killed again and again it stays failed, and refuses a start until that is reset."""
    site = CephSite()
    node, name = site.world.nodes["pve1"], "ceph-osd@0.service"
    for _ in range(4):
        site.world.systemd.kill(node, name, "KILL")
        site.play(12)
    assert node.units["ceph-osd@0"].failed
    with pytest.raises(Exception, match="attempted too often"):
        site.world.systemd.start(node, name)
    site.world.systemd.reset_failed(node, name)
    site.world.systemd.start(node, name)
    site.until(lambda: site.ceph.osds[0].up, 20)


def test_mons_elect_and_a_manager_takes_over() -> None:
    """Without the leader nothing is answered for 5 to 10 s; a lost manager leaves the old word standing for 30 s."""
    site = CephSite()
    node = site.world.nodes["pve1"]
    site.world.systemd.mask(node, "ceph-mon@pve1.service", runtime=True)
    site.world.systemd.kill(node, "ceph-mon@pve1.service", "KILL")
    assert not site.ceph.answers(site.world.nodes["pve2"])
    took = site.until(lambda: site.ceph.answers(site.world.nodes["pve2"]), 15)
    assert 5 <= took <= 10.2
    assert site.ceph.mons.quorum == ("pve2", "pve3")
    assert site.health()["MON_DOWN"] == "1/3 mons down, quorum pve2,pve3"
    active = site.ceph.managers.active
    site.world.systemd.stop(site.world.nodes[active], f"ceph-mgr@{active}.service")
    site.systemctl(5 if active != "pve3" else 3, "stop")
    site.play(25)
    assert set(site.ceph.digest.told.states) == {"active+clean"}
    site.play(20)
    assert site.ceph.managers.active != active
    assert set(site.ceph.digest.told.states) != {"active+clean"}


def test_a_clock_that_is_off_is_told_of() -> None:
    """More than 0.05 s from the leader's."""
    site = CephSite()
    site.world.nodes["pve2"].clock_offset += 0.2
    assert site.health() == {"MON_CLOCK_SKEW": "clock skew detected on mon.pve2"}


def test_two_rooms_that_both_hear_the_tiebreaker_are_no_quorum_together() -> None:
    """The first room has the quorum; the other's mons have none, and its OSDs do not ask the tiebreaker."""
    site = CephSite(
        nodes=4, rooms=("a", "b"), ceph={"size": 4, "min_size": 2, "stretch": True, "tiebreaker": "arbiter"}
    )
    world, ceph = site.world, site.ceph
    for name in ("pve1", "pve3"):
        others = frozenset(
            ceph.network.address(other, kind) for other in ("pve2", "pve4") for kind in (CLUSTER, PUBLIC)
        )
        chain = Chain("in", "input", rules=[Rule("cut", "drop", sources=others)])
        world.network.tables(world.nodes[name])["inet cut"] = Table("cut", chains={"in": chain})
        world.network.changed(world.nodes[name])
    site.until(lambda: ceph.mons.quorum == ("pve1", "pve3", "arbiter"), 60)
    said = {name: ceph.mons.state(ceph.mons.all[name]) for name in ("pve1", "pve2", "pve3", "pve4")}
    assert said == {"pve1": "leader", "pve2": "probing", "pve3": "peon", "pve4": "probing"}
    assert ceph.answers(world.nodes["pve2"])  # by the tiebreaker: what it is told is no word of its own room
    assert not ceph.reaches_mons("pve2")
    site.until(
        lambda: ceph.stretch.degraded and not any(osd.up for osd in ceph.osds.values() if osd.host in ("pve2", "pve4")),
        90,
    )


def test_stretch_mode_survives_a_room() -> None:
    """Both of a room's copies gone, half are enough after half a minute; recovered it is as before."""
    site = CephSite(
        nodes=4, rooms=("a", "b"), ceph={"size": 4, "min_size": 2, "stretch": True, "tiebreaker": "arbiter"}
    )
    for name in ("pve2", "pve4"):
        site.power_off(name)
    site.play(45)
    assert site.ceph.stretch.degraded
    assert "DEGRADED_STRETCH_MODE" in site.health()
    assert not site.ceph.io.blocked
    assert site.ceph.pools["ceph-vm"].min_size == 1
    for name in ("pve2", "pve4"):
        site.world.chassis(name, "on")
    site.until(lambda: not site.ceph.stretch.degraded, 120)
    site.until(lambda: site.clean() and not site.ceph.stretch.recovering, 300)
    assert site.ceph.pools["ceph-vm"].min_size == 2
