"""Nodes that go down in good order, maintenance, disarming: what each policy promises, with the measured times."""

from __future__ import annotations

import pytest

from tests.sim.ha_kit import Site, guest

SEEDS = range(1, 13)
GUESTS = (guest(101, "pve1"), guest(103, "pve3"), guest(102, "pve2"))


def moved(site: Site, start: float) -> list[str]:
    """Where the guest of pve3 went, in order."""
    return [d["node"] for at, k, d in site.truth if at >= start and k == "guest_migrated" and d["vmid"] == 103]


@pytest.mark.parametrize("seed", SEEDS)
def test_reboot_policy_conditional(seed: int) -> None:
    """A reboot stops and freezes the services; nothing is fenced, and they start again on the same node."""
    site = Site(
        *GUESTS[:2], guest(102, "pve2", acpi=False), guest(104, "pve3", acpi=False), seed=seed, boot_seconds=120
    )
    start = site.now
    site.world.shutdown("pve3", reboot=True)
    site.play(400)
    (asked,) = site.said("reboot LRM, stop and freeze all services", on="pve3")
    assert 3.6 <= asked - start <= 5.2
    assert site.became(start, "vm:103", "freeze") <= 15.5
    stopped = site.during(start, "guest_process_stop", vmid=104)
    assert 60 <= stopped <= 77
    left = site.during(start, "node_state", node="pve3", new="unknown")
    assert 70 <= left <= 100
    assert site.states(start, "vm:103") == ["freeze", "started"]
    assert site.since(start, "fence") is None
    assert site.since(start, "watchdog_reset") is None
    assert site.at("vm:103") == "started@pve3"
    assert site.healthy()


@pytest.mark.parametrize("policy", ["conditional", "failover"])
@pytest.mark.parametrize("seed", SEEDS)
def test_shutdown1(seed: int, policy: str) -> None:
    """A power-off leaves the services unfrozen: fenced 60 s later and recovered in that round, for the lock is free."""
    site = Site(*GUESTS, seed=seed, shutdown_policy=policy)
    victim = site.slaves()[-1]
    sid = next(one.sid for one in site.world.guests.values() if one.config_node == victim)
    start = site.now
    site.world.shutdown(victim, reboot=False)
    site.play(150)
    assert site.said("shutdown LRM, stop all services", on=victim)
    unknown = site.during(start, "node_state", node=victim, new="unknown")
    fence = site.during(start, "fence", node=victim)
    assert 49 <= fence - unknown <= 61
    assert fence == site.during(start, "acknowledged", node=victim)
    assert site.states(start, sid) == ["fence", "recovery", "started"]
    assert site.service(sid)["node"] != victim
    assert not site.world.nodes[victim].chassis_on
    assert site.since(start, "watchdog_reset") is None


def test_shutdown4_the_master() -> None:
    """A master that is shut down gives its lock back: another one is master within 21 s of its end."""
    site = Site(*GUESTS)
    victim, start = site.master, site.now
    site.world.shutdown(victim, reboot=False)
    site.play(200)
    (released,) = site.said("voluntary release CRM lock", on=victim)
    assert 0 < site.during(released, "master") <= 21
    assert site.during(start, "acknowledged", node=victim) <= 130


@pytest.mark.parametrize("reboot", [True, False])
def test_shutdown_policy2_freeze(reboot: bool) -> None:
    """Under `freeze` nothing is fenced and nothing recovers, however long the node stays away."""
    site = Site(*GUESTS, shutdown_policy="freeze", seed=2, boot_seconds=900)
    start = site.now
    site.world.shutdown("pve3", reboot=reboot)
    site.play(600)
    assert site.status["node_status"]["pve3"] == "unknown"
    assert site.at("vm:103") == "freeze@pve3"
    assert site.since(start, "fence") is None
    site.world.chassis("pve3", "on")
    site.play(1000)
    assert site.healthy()
    assert site.at("vm:103") == "started@pve3"


@pytest.mark.parametrize("boot_seconds", [15, 300])
def test_shutdown_policy1_failover_reboot(boot_seconds: int) -> None:
    """Under `failover` a node that is back within 60 s starts its services itself; else they are recovered."""
    site = Site(*GUESTS, shutdown_policy="failover", boot_seconds=boot_seconds, seed=4)
    victim = site.slaves()[-1]
    sid = next(one.sid for one in site.world.guests.values() if one.config_node == victim)
    start = site.now
    site.world.shutdown(victim, reboot=True)
    site.play(500)
    fenced = site.since(start, "fence", node=victim) is not None
    assert fenced == (boot_seconds == 300)
    assert (site.service(sid)["node"] == victim) == (boot_seconds == 15)
    assert site.healthy()


@pytest.mark.parametrize("seed", SEEDS)
def test_shutdown_policy3_migrate_reboot(seed: int) -> None:
    """Under `migrate` a node empties first, then reboots, and its services come home: the measured steps."""
    site = Site(*GUESTS, shutdown_policy="migrate", seed=seed)
    start = site.now
    site.world.shutdown("pve3", reboot=True)
    site.play(300)
    (asked,) = site.said("reboot LRM, doing maintenance, removing this node from active list", on="pve3")
    assert 3.6 <= asked - start <= 5.2
    maintenance = site.during(start, "node_state", node="pve3", new="maintenance")
    assert asked - start <= maintenance <= asked - start + 10.1
    assert site.became(start, "vm:103", "migrate") == maintenance
    away = site.during(start, "guest_migrated", vmid=103)
    # the LRM looks every 5 s, and the migration takes 5.7 to 9 s and 2 s for the memory
    assert maintenance + 5.5 <= away <= maintenance + 25
    (stopped,) = site.said("server stopped", on="pve3", since=start)[:1]
    assert away <= stopped - start <= away + 22
    down = site.during(start, "reboot", node="pve3")
    assert down > stopped - start
    assert site.states(start, "vm:103") == ["migrate", "started", "migrate", "started"]
    assert moved(site, start)[1:] == ["pve3"]
    assert site.said("moving service 'vm:103' back to 'pve3', node came back from maintenance.")
    assert site.since(start, "fence") is None
    assert site.healthy()


def test_shutdown_policy4_migrate_shutdown() -> None:
    """Powered off under `migrate`, the node stays in maintenance; what is started there is recovered in that round."""
    site = Site(*GUESTS, guest(104, "pve3", state="stopped"), shutdown_policy="migrate", seed=2)
    start = site.now
    site.world.shutdown("pve3", reboot=False)
    site.play(300)
    assert not site.world.nodes["pve3"].chassis_on
    assert site.status["node_status"]["pve3"] == "maintenance"
    assert site.since(start, "fence") is None
    start = site.now
    site.ask("vm:104", "started")
    site.play(40)
    assert site.during(start, "recovery", sid="vm:104") == site.became(start, "vm:104", "request_start")
    assert site.service("vm:104")["node"] != "pve3"


def test_shutdown_policy_migrate_fail1() -> None:
    """A service that cannot leave holds the shutdown up, and is tried again every round."""
    rule = {"name": "pin", "affinity": "node", "guests": ["vm:103"], "nodes": ["pve3"], "strict": True}
    site = Site(*GUESTS, shutdown_policy="migrate", rules=[rule])
    site.world.shutdown("pve3", reboot=True)
    site.play(600)
    assert site.world.nodes["pve3"].running
    assert site.running(103) == ["pve3"]
    assert site.status["node_status"]["pve3"] == "maintenance"


def test_a_container_is_relocated_away() -> None:
    """Under `migrate` a container is stopped here and started there."""
    site = Site(guest(101, "pve1"), guest(103, "pve3", kind="ct"), shutdown_policy="migrate", seed=2)
    start = site.now
    site.world.shutdown("pve3", reboot=True)
    site.play(300)
    assert site.states(start, "ct:103") == ["relocate", "started", "relocate", "started"]
    assert site.healthy()


@pytest.mark.parametrize("seed", SEEDS)
def test_re_start_lrm(seed: int) -> None:
    """A restart of the LRM freezes its services until it is back; no guest stops and no watchdog bites."""
    site = Site(*GUESTS, seed=seed)
    node, start = site.world.nodes["pve3"], site.now
    ended: list[float] = []
    daemons = site.world.systemd.daemons
    daemons.stop(node, "pve-ha-lrm", lambda: ended.append(site.now))
    site.play(25)
    assert len(ended) == 1
    assert node.lrm is None
    assert not node.watchdog_active
    assert site.states(start, "vm:103") == ["freeze"]
    daemons.start(node, "pve-ha-lrm")
    site.play(40)
    assert site.states(start, "vm:103") == ["freeze", "started"]
    site.play(20)
    assert site.healthy()
    assert site.since(start, "guest_process_stop") is None


def test_stopping_the_crm_of_a_master() -> None:
    """A master that ends gives its lock back, and another is master within 20 s."""
    site = Site(*GUESTS)
    start, victim = site.now, site.master
    site.world.systemd.daemons.stop(site.world.nodes[victim], "pve-ha-crm")
    site.play(40)
    assert site.during(start, "master") <= 30
    assert site.master != victim
    assert site.since(start, "fence") is None


@pytest.mark.parametrize("seed", SEEDS)
def test_maintenance_on_and_off(seed: int) -> None:
    """In maintenance a node empties and lets its watchdog go; out of it, its services come home: the measured steps."""
    site = Site(*GUESTS, seed=seed)
    start = site.now
    site.command("enable-node-maintenance pve3")
    site.play(90)
    (lrm,) = site.said("status change active => maintenance", on="pve3")
    node = site.during(start, "node_state", node="pve3", new="maintenance")
    assert lrm - start <= node <= 30.2
    assert site.became(start, "vm:103", "migrate") == node
    away = site.during(start, "guest_migrated", vmid=103)
    assert node + 5.5 <= away <= node + 25
    assert site.became(start, "vm:103", "started") <= away + 15
    (closed,) = site.said("watchdog closed (disabled)", on="pve3", since=start)
    assert closed - start <= away + 30
    assert site.service("vm:103")["maintenance_node"] == "pve3"
    assert site.status["node_request"] == {"pve3": {"maintenance": 1}}
    assert site.running(103) != ["pve3"]
    start = site.now
    site.command("disable-node-maintenance pve3")
    site.play(90)
    assert site.during(start, "node_state", node="pve3", new="online") <= 25
    assert site.status["node_request"] == {"pve3": {}}
    assert site.running(103) == ["pve3"]
    assert "maintenance_node" not in site.service("vm:103")
    assert site.healthy()


def test_maintenance_left_before_the_node_is_empty() -> None:
    """The LRM keeps that state as long as a service is there or on its way back, and guards it all the same."""
    site = Site(*GUESTS)
    site.play(3)
    node = site.world.nodes["pve1"]
    site.world.crm_command("pve2", "enable-node-maintenance pve1")
    site.play(6)
    site.world.crm_command("pve2", "disable-node-maintenance pve1")
    site.play(120)
    assert site.world.pmxcfs.store.manager["node_status"]["pve1"] == "online"
    assert (node.lrm_state, node.lrm_mode, node.watchdog_active) == ("maintenance", "active", True)
    assert site.world.pmxcfs.holds("ha_agent_pve1_lock", node)
    site.world.migrate_guest(101, "pve2")
    site.play(60)
    assert node.lrm_state == "active"


def test_crm_maintenance_request1() -> None:
    """A node in maintenance that loses power is not fenced, and is still in maintenance when it is back."""
    site = Site(*GUESTS, seed=2)
    site.command("enable-node-maintenance pve3")
    site.play(90)
    start = site.cut("pve3")
    site.play(300)
    assert site.since(start, "fence") is None
    assert site.status["node_status"]["pve3"] == "maintenance"
    site.power_on("pve3")
    site.play(120)
    assert site.status["node_status"]["pve3"] == "maintenance"
    assert site.running(103) != ["pve3"]
    site.command("disable-node-maintenance pve3")
    site.play(200)
    assert site.healthy()
    assert site.running(103) == ["pve3"]


def test_maintenance_of_a_node_that_is_off_is_refused() -> None:
    """Only a node that is online can go into maintenance."""
    site = Site(*GUESTS)
    victim = site.slaves()[0]
    site.cut(victim)
    site.play(40)
    site.command(f"enable-node-maintenance {victim}")
    site.play(15)
    assert site.said(f"crm command error - node not online: enable-node-maintenance {victim}")
    assert "node_request" not in site.status


@pytest.mark.parametrize("seed", SEEDS)
def test_disarm_frozen1_and_arm(seed: int) -> None:
    """Disarmed, every service is frozen and every watchdog let go within 30 s; armed again, all is as before."""
    site = Site(*GUESTS, seed=seed)
    start = site.now
    site.command("disarm-ha freeze")
    site.play(40)
    assert site.became(start, "vm:101", "freeze") <= 10.1
    assert site.during(start, "disarmed", mode="freeze") <= 30.2
    assert {one["state"] for one in site.status["service_status"].values()} == {"freeze"}
    assert not any(node.watchdog_active for node in site.world.nodes.values())
    assert site.since(start, "guest_process_stop") is None
    site.cut(site.slaves()[0])
    site.play(200)
    assert site.since(start, "fence") is None
    site.world.chassis(next(n.name for n in site.world.nodes.values() if not n.running), "on")
    site.play(60)
    start = site.now
    site.command("arm-ha")
    site.play(240)
    assert site.said("got crm command: arm-ha", since=start)
    assert site.healthy()


def test_disarm_ignored1() -> None:
    """Disarmed with `ignore`, guests are handled as if they were not under HA; armed again, what moved stays there."""
    site = Site(*GUESTS, seed=2)
    site.command("disarm-ha ignore")
    site.play(40)
    assert site.at("vm:101") == "started@pve1"
    assert ":qmigrate:" in site.world.migrate_guest(101, "pve2")
    site.play(20)
    assert site.running(101) == ["pve2"]
    assert site.at("vm:101") == "started@pve1"
    site.command("arm-ha")
    site.play(60)
    assert site.said("service 'vm:101': updating node 'pve1' => 'pve2' (changed while disarmed)")
    assert site.healthy()


@pytest.mark.parametrize("mode", ["freeze", "ignore"])
def test_arming_while_a_node_is_cut_off(mode: str) -> None:
    """Frozen, its guests stay frozen until its LRM is back. Ignored, they are recovered at once, and run twice.

    Its lock is free and no watchdog has reset it: so on a real site (played with pve-ha-manager 5.2's own tester).
    """
    site = Site(guest(101, "pve1"), guest(102, "pve2"), guest(103, "pve3"), seed=4)
    victim = next(name for name in site.slaves())
    (vmid,) = (vmid for vmid in (101, 102, 103) if site.running(vmid) == [victim])
    site.command(f"disarm-ha {mode}")
    site.play(60)
    site.world.cut_network(victim)
    site.play(100)
    assert site.world.nodes[victim].running
    start = site.now
    site.command("arm-ha")
    site.play(200)
    assert victim in site.running(vmid)
    if mode == "freeze":
        assert site.at(f"vm:{vmid}") == f"freeze@{victim}"
        assert site.running(vmid) == [victim]
    else:
        assert site.during(start, "recovery", vmid=vmid) <= 10.1
        assert len(site.running(vmid)) == 2
    site.world.restore_network(victim)
    site.play(200)
    assert site.healthy() is (mode == "freeze")


def test_disarm_fence1() -> None:
    """A disarm waits until a pending fence is over and its services are recovered."""
    site = Site(*GUESTS, seed=2)
    victim = site.slaves()[0]
    start = site.cut(victim)
    site.play(80)
    site.command("disarm-ha freeze")
    site.play(120)
    assert site.said("deferring disarm - service", "is in 'fence' state")
    assert site.during(start, "disarmed") > site.during(start, "recovery") > 118
