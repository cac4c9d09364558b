"""The HA manager's failures, row by row and rule by rule of what was measured on a PVE 9.1.9 control plane.

A test named ``test_basicN`` is a scenario of pve-ha-manager's own regression tests: there the order counts, for its
clock is another. A test named ``test_rule_N`` holds for any phase of the daemons' rounds: it is played with many seeds.
"""

from __future__ import annotations

import pytest

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.world import World
from tests.sim.ha_kit import Site, guest

SEEDS = range(1, 25)
THREE = (guest(101, "pve1"), guest(102, "pve2"), guest(103, "pve3"))


def loaded(seed: int, **more: object) -> tuple[Site, str, int]:
    """A site, a slave of it, and the guest on it."""
    site = Site(*THREE, seed=seed, **more)
    victim = site.slaves()[-1]
    return site, victim, next(one.vmid for one in site.world.guests.values() if one.config_node == victim)


def quorate_at(world: World, name: str) -> bool:
    return world.cluster_view(world.nodes[name]).quorate


@pytest.mark.parametrize("seed", SEEDS)
def test_basic1_network_loss_of_a_slave(seed: int) -> None:
    """Unknown, lock lost, fence, reset, lock taken and recovery, start: in that order, the reset before takeover."""
    site, victim, vmid = loaded(seed)
    start = site.now
    site.world.cut_network(victim)
    site.play(200)
    unknown = site.during(start, "node_state", node=victim, new="unknown")
    (slave,) = site.said("status change slave => wait_for_quorum", since=start, on=victim)
    (lost,) = site.said("status change active => lost_agent_lock", since=start, on=victim)
    fence = site.during(start, "fence", node=victim)
    reset = site.during(start, "watchdog_reset", node=victim)
    taken = site.during(start, "acknowledged", node=victim)
    recovery = site.during(start, "recovery", vmid=vmid)
    begun = site.during(start, "guest_process_start", vmid=vmid)
    assert unknown < fence < taken == recovery < begun
    assert max(slave, lost) - start < reset < taken
    assert site.states(start, f"vm:{vmid}") == ["fence", "recovery", "started"]


@pytest.mark.parametrize("seed", SEEDS)
def test_basic5_network_loss_of_the_master(seed: int) -> None:
    """The old master gives up and is reset; a new one fences and recovers at once; back, its service comes home."""
    rules = [{"name": f"home{n}", "affinity": "node", "guests": [f"vm:10{n}"], "nodes": [f"pve{n}"]} for n in (1, 2, 3)]
    site = Site(*THREE, seed=seed, rules=rules, boot_seconds=120)
    victim, start = site.master, site.now
    vmid = next(one.vmid for one in site.world.guests.values() if one.config_node == victim)
    site.world.cut_network(victim)
    site.play(60)
    assert site.said("status change master => lost_manager_lock", since=start, on=victim)
    assert site.said("status change lost_manager_lock => wait_for_quorum", since=start, on=victim)
    site.play(200)
    master = site.during(start, "master")
    assert site.during(start, "watchdog_reset", node=victim) < master
    assert site.during(start, "node_state", node=victim, new="unknown") == master
    assert site.during(start, "fence", node=victim) == site.during(start, "recovery", vmid=vmid)
    assert site.running(vmid) != [victim]
    site.world.restore_network(victim)
    site.play(300)
    assert site.running(vmid) == [victim]
    assert site.healthy()


def test_basic3_network_loss_of_all() -> None:
    """Every node that runs services resets itself, and nothing else ever happens."""
    site = Site(*THREE[:2])
    start = site.now
    for name in site.world.nodes:
        site.world.cut_network(name)
    site.play(400)
    for name in ("pve1", "pve2"):
        assert 55 <= site.during(start, "watchdog_reset", node=name) <= 85
    assert site.since(start, "watchdog_reset", node="pve3") is None
    assert site.since(start, "fence") is None
    assert site.since(start, "recovery") is None


def test_basic4_network_comes_after_the_boot() -> None:
    """Nodes that boot without network do nothing; with it a master is elected, and the services start."""
    site = Site(*THREE)
    for name in site.world.nodes:
        site.cut(name)
        site.world.nodes[name].link_up = False
    site.play(300)
    for name in site.world.nodes:
        site.world.chassis(name, "on")
    site.play(100)
    start = site.now
    assert not any(one.processes for one in site.world.guests.values())
    assert {node.crm_state for node in site.world.nodes.values()} == {"wait_for_quorum"}
    for name in site.world.nodes:
        site.world.restore_network(name)
    site.play(200)
    assert 5 <= site.during(start, "master") <= 60
    assert 5 <= site.during(start, "guest_process_start") <= 60
    assert site.healthy()


@pytest.mark.parametrize("seed", range(1, 9))
def test_basic2_master_crashes_while_a_fence_is_pending(seed: int) -> None:
    """The node in state `fence` does not become master though it is back first; another one finishes the fence."""
    site = Site(*THREE, seed=seed, boot_seconds=5)
    victim, master = site.slaves()[-1], site.master
    vmid = next(one.vmid for one in site.world.guests.values() if one.config_node == victim)
    start = site.cut(victim)
    while site.since(start, "fence", node=victim) is None:
        site.timeline.run_next()
    site.cut(master)
    site.world.chassis(victim, "on")
    site.play(30)
    assert site.world.nodes[victim].crm_state == "wait_for_quorum" or site.master != victim
    site.world.chassis(master, "on")
    site.play(250)
    assert site.master != victim
    assert site.during(start, "recovery", vmid=vmid) > 60
    site.play(150)
    assert site.healthy()


@pytest.mark.parametrize("seed", SEEDS)
def test_rule_1_membership_loss_is_seen_after_6_to_8_seconds(seed: int) -> None:
    """Token and consensus: the survivors agree 6 to 8 s after the fault, and reads may hang until then."""
    site, victim, _ = loaded(seed)
    start = site.cut(victim)
    site.play(5.9)
    survivors = [node for node in site.world.nodes.values() if node.running]
    assert all(node.syncing for node in survivors)
    site.play(2.1)
    assert not any(node.syncing for node in survivors)
    assert 6 <= site.during(start, "membership") <= 8


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_2_and_3_unknown_and_fence(seed: int) -> None:
    """Unknown 6.5 to 17 s after the fault, fence five rounds later: 57 to 67 s after the fault."""
    site, victim, _ = loaded(seed)
    start = site.cut(victim)
    site.play(80)
    unknown = site.during(start, "node_state", node=victim, new="unknown")
    fence = site.during(start, "fence", node=victim)
    assert 6.5 <= unknown <= 17.1
    assert fence - unknown == pytest.approx(50.15, abs=0.2)
    assert 56.5 <= fence <= 67.5


@pytest.mark.parametrize("seed", SEEDS)
def test_rules_4_and_5_recovery_and_start_for_a_slave(seed: int) -> None:
    """The lock is taken 120 to 140 s after the fault, in two tries, and the guest runs after 120 to 155 s."""
    site, victim, vmid = loaded(seed)
    start = site.cut(victim)
    site.play(200)
    lock = f"ha_agent_{victim}_lock"
    deleted = site.during(start, "lock", lock=lock, what="expired")
    taken = site.during(start, "acknowledged", node=victim)
    assert 110 <= deleted <= 131
    assert taken - deleted == pytest.approx(10.03, abs=0.1)
    assert 120 <= taken <= 140.5
    begun = site.during(start, "guest_process_start", vmid=vmid)
    assert 0 <= begun - taken <= 15.5
    assert 120 <= begun <= 155


@pytest.mark.parametrize("seed", SEEDS)
def test_rule_6_death_of_the_master(seed: int) -> None:
    """A new master after 110 to 130 s, which needs its own 60 s: fence and recovery in one round, 170 to 190 s."""
    site = Site(*THREE, seed=seed)
    victim = site.master
    start = site.cut(victim)
    site.play(230)
    assert 110 <= site.during(start, "master") <= 130
    fence = site.during(start, "fence", node=victim)
    assert 170 <= fence <= 190.5
    assert fence == site.during(start, "recovery")
    assert 170 <= site.during(start, "guest_process_start") <= 205


@pytest.mark.parametrize("seed", SEEDS)
def test_rule_7_an_isolated_node_resets_itself_in_time(seed: int) -> None:
    """60 to 78 s after the cut, and always before its lock is given away."""
    site, victim, _ = loaded(seed)
    start = site.now
    site.world.cut_network(victim)
    site.play(160)
    reset = site.during(start, "watchdog_reset", node=victim)
    assert 60 <= reset <= 78
    assert site.during(start, "acknowledged", node=victim) - reset >= 40


@pytest.mark.parametrize("seed", range(1, 9))
def test_rule_8_a_fenced_node_waits_for_its_own_lock(seed: int) -> None:
    """The master that fenced it holds its lock for 120 s: a service placed there meanwhile is `starting` until then."""
    site, victim, vmid = loaded(seed, boot_seconds=5)
    start = site.cut(victim)
    site.play(141)
    taken = start + site.during(start, "acknowledged", node=victim)
    site.power_on(victim)
    site.play(22)
    site.command(f"migrate vm:{vmid} {victim}")
    site.play(45)
    assert site.at(f"vm:{vmid}") == f"started@{victim}"
    assert "running" not in site.service(f"vm:{vmid}")
    assert site.world.nodes[victim].lrm_state == "wait_for_agent_lock"
    site.play(170)
    own = site.during(taken + 1, "lock", lock=f"ha_agent_{victim}_lock", node=victim, what="taken") + 1
    # the returned node may judge all locks, and counts from its own start
    assert 120 <= own <= 200
    assert site.healthy()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_that_is_fenced_twice_by_one_master(seed: int) -> None:
    """The lock it took the first time is its LRM's again: it says that it lost it, and takes it once more.

    Seen on PVE 9.2: three power cuts in one run, two of them of one node.
    """
    site, victim, vmid = loaded(seed, boot_seconds=5)
    master = site.world.nodes[site.master]
    lock = f"lock 'ha_agent_{victim}_lock"
    told = []
    for _ in range(2):
        begun = len(master.journal)
        start = site.cut(victim)
        site.play(200)
        told.append([line.text for line in master.journal[begun:] if lock in line.text])
        site.power_on(victim)
        site.play(60)
        site.command(f"migrate vm:{vmid} {victim}")
        site.play(300)
        assert site.during(start, "acknowledged", node=victim) > 100
        assert site.healthy()
    taken = f"successfully acquired {lock}'"
    assert told == [[taken], [f"lost {lock} - can't get cfs lock", taken]]


@pytest.mark.parametrize("seed", range(1, 9))
def test_rule_9_black_start(seed: int) -> None:
    """After a loss of all power the stale locks hold everything up: HA is back about 123 s after power-on."""
    site = Site(*THREE, seed=seed, boot_seconds=1)
    for name in site.world.nodes:
        site.cut(name)
    site.play(600)
    start = site.now
    for name in site.world.nodes:
        site.world.chassis(name, "on")
    site.play(200)
    assert 118 <= site.during(start, "master") <= 140
    assert 118 <= site.during(start, "guest_process_start") <= 150
    assert site.healthy()


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_clean_black_start_needs_no_lock_to_expire(seed: int) -> None:
    """Without locks left over, master and guests are back within a minute of power-on."""
    site = Site(*THREE, seed=seed, boot_seconds=1)
    for name in site.world.nodes:
        site.cut(name)
    site.play(600)
    site.world.pmxcfs.store.locks.clear()
    start = site.now
    for name in site.world.nodes:
        site.world.chassis(name, "on")
    site.play(100)
    assert site.during(start, "master") <= 40
    assert site.during(start, "guest_process_start") <= 40
    assert site.healthy()


@pytest.mark.parametrize("seed", range(1, 9))
def test_quorumloss_two_of_three_nodes_cut(seed: int) -> None:
    """The survivor loses quorum at 7 s, fences nobody, keeps its guest, and is reset by its own watchdog."""
    site = Site(*THREE, seed=seed)
    start = site.now
    for name in ("pve2", "pve3"):
        site.world.cut_network(name)
    site.play(9)
    assert not any(quorate_at(site.world, name) for name in site.world.nodes)
    assert site.running(101) == ["pve1"]
    site.play(100)
    assert 60 <= site.during(start, "watchdog_reset", node="pve1") <= 80
    assert site.since(start, "fence") is None


@pytest.mark.parametrize("seed", range(1, 9))
def test_several_nodes_lost_with_quorum(seed: int) -> None:
    """Two of five nodes die at once: both are fenced and recovered in parallel, within the times of one."""
    five = [guest(100 + n, f"pve{n}") for n in range(1, 6)]
    site = Site(*five, seed=seed, nodes=5)
    first, second = site.slaves()[-2:]
    start = site.cut(first)
    site.cut(second)
    site.play(220)
    for victim in (first, second):
        assert 115 <= site.during(start, "acknowledged", node=victim) <= 150
    assert all(site.during(start, "guest_process_start", vmid=100 + int(name[-1])) <= 165 for name in (first, second))


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_killed_guest_is_started_within_a_round(seed: int) -> None:
    """0 to 10 s: its state stays `started`, no retry is counted, pid and start are new."""
    site = Site(*THREE, seed=seed)
    start, old = site.now, site.world.guests[101].processes["pve1"].pid
    site.world.kill_guest(101, "pve1")
    site.play(30)
    assert site.during(start, "guest_process_start", vmid=101) <= 10.4
    assert site.world.guests[101].processes["pve1"].pid != old
    assert site.states(start, "vm:101") == []
    assert not site.said("restart policy", since=start)


def test_a_bridge_lost_is_no_business_of_ha() -> None:
    """Guests behind a dead bridge run on and are reached by nobody; HA does nothing, and corosync lives."""
    site = Site(*THREE)
    start = site.now
    site.world.cut_bridge("pve1")
    assert not site.world.guest_answering(101)
    site.play(600)
    assert site.states(start, "vm:101") == []
    assert site.running(101) == ["pve1"]
    assert quorate_at(site.world, "pve1")
    site.world.restore_bridge("pve1")
    assert site.world.guest_answering(101)


def test_a_full_target_takes_nobody() -> None:
    """No node has the memory: the migration fails, the guest stays, and a recovered one ends in error."""
    gib = 1 << 30
    big = [guest(100 + n, f"pve{n}", memory_bytes=40 * gib) for n in (1, 2, 3)]
    site = Site(*big, seed=3)
    site.command("migrate vm:103 pve2")
    site.play(60)
    assert site.said("service 'vm:103' - migration failed (exit code 1)")
    assert site.at("vm:103") == "started@pve3"
    site.cut("pve3")
    site.play(300)
    assert site.service("vm:103")["state"] == "error"
    assert site.running(103) == []


def test_a_local_disk_is_missing_after_a_recovery() -> None:
    """A guest whose disk is local moves with it, slowly; recovered from a dead node it cannot start."""
    site = Site(guest(101, "pve1", storage="local-lvm", disk_bytes=20 << 30), *THREE[1:], seed=3)
    start = site.now
    site.command("migrate vm:101 pve3")
    site.play(90)
    assert site.running(101) == ["pve3"]
    assert site.during(start, "guest_migrated", vmid=101) > 25
    site.cut("pve3")
    site.play(300)
    assert site.service("vm:101")["state"] == "error"
    assert site.running(101) == []


def test_memory_and_bandwidth_make_a_migration_long() -> None:
    """32 GiB over 400 MiB/s take 82 s, and the silence is short all the same."""
    site = Site(guest(101, "pve1", memory_bytes=32 << 30), *THREE[1:], migration_mib=400)
    start = site.now
    site.command("migrate vm:101 pve2")
    site.play(150)
    began = site.became(start, "vm:101", "migrate")
    moved = site.during(start, "guest_migrated", vmid=101)
    assert 82 + 5 <= moved - began <= 82 + 21
    silent = site.during(start, "guest_silent", vmid=101)
    assert moved - silent <= 0.16
    (task,) = (task for task in site.world.nodes["pve1"].tasks if task.type == "qmigrate")
    assert task.log[-2].startswith("migration finished successfully (duration 00:01:")


def test_an_idle_node_is_not_reset_by_isolation() -> None:
    """A node without services has no watchdog open, and lives on alone."""
    site = Site(*THREE[:2])
    boot = site.world.nodes["pve3"].boot_id
    site.world.cut_network("pve3")
    site.play(300)
    assert site.world.nodes["pve3"].boot_id == boot


def test_a_large_site_is_played_fast() -> None:
    """32 nodes and 1,000 guests: time goes on, and every service is recovered."""
    many = [guest(1000 + n, f"pve{n % 32 + 1}", memory_bytes=1 << 30) for n in range(1000)]
    site = Site(*many, nodes=32, seed=3)
    start = site.cut(site.slaves()[-1])
    site.play(300)
    assert all(one["state"] == "started" for one in site.status["service_status"].values())
    assert site.during(start, "recovery") <= 155
    assert site.timeline.now > 300 * SECOND
