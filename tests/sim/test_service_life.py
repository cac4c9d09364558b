"""Services of the HA manager: failed starts, retries, relocation, error, requests, and recovery without a node."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.sim.ha_kit import Site, guest

SEEDS = range(1, 9)


@pytest.mark.parametrize("seed", SEEDS)
def test_resource_failure1(seed: int) -> None:
    """A start that fails once is retried in the LRM's next round, and the CRM hears of nothing."""
    site = Site(guest(101, "pve1", state="stopped", start_failures=1), seed=seed)
    start = site.now
    site.ask("vm:101", "started")
    site.play(60)
    assert site.states(start, "vm:101") == ["request_start", "started"]
    (retry,) = site.said("restart policy: retry number 1 for service 'vm:101'")
    started = site.during(start, "guest_process_start", vmid=101) + start
    assert 9 <= started - retry <= 11
    assert site.at("vm:101") == "started@pve1"


@pytest.mark.parametrize("seed", SEEDS)
def test_resource_failure2(seed: int) -> None:
    """Three failures with max_restart 2 and max_relocate 1: tried three times here, then started elsewhere."""
    site = Site(guest(101, "pve2", state="stopped", start_failures=3, max_restart=2, max_relocate=1), seed=seed)
    start = site.now
    site.ask("vm:101", "started")
    site.play(120)
    assert site.states(start, "vm:101") == ["request_start", "started", "migrate", "started"]
    assert len(site.said("unable to start service vm:101", since=start, on="pve2")) == 4
    assert site.said("starting service vm:101 on node 'pve2' failed, relocating service.")
    assert site.said("relocation policy successful for 'vm:101' on node 'pve1', failed nodes: pve2")
    assert site.running(101) == ["pve1"]
    assert "failed_nodes" not in site.service("vm:101")


def test_resource_failure5() -> None:
    """Without relocations left the service is in error, says so, and only `disabled` gets it out."""
    site = Site(guest(101, "pve2", state="stopped", start_failures=9, max_restart=1, max_relocate=0))
    site.ask("vm:101", "started")
    site.until("vm:101", "error")
    site.play(1)
    start = site.now
    site.play(120)
    assert site.said("recovery policy for service vm:101 failed, entering error state. Failed nodes: pve2")
    assert site.said("service vm:101 is in an error state and needs manual intervention.")
    site.ask("vm:101", "stopped")
    site.play(60)
    site.command("migrate vm:101 pve3")
    site.play(60)
    site.ask("vm:101", "started")
    site.play(60)
    assert site.states(start, "vm:101") == []
    site.ask("vm:101", "disabled")
    site.play(15)
    assert site.at("vm:101") == "stopped@pve2"
    site.world.guests[101].start_failures = 0
    site.ask("vm:101", "started")
    site.play(60)
    assert site.healthy()


def test_relocate_policy1() -> None:
    """Each node is tried once; when all have failed the service is started where it is."""
    site = Site(guest(101, "pve3", state="stopped", start_failures=3, max_restart=0, max_relocate=3))
    site.ask("vm:101", "started")
    site.play(200)
    assert site.said("Start Error Recovery: Tried all available nodes for service 'vm:101'")
    assert site.said("relocation policy successful for 'vm:101'", "failed nodes: pve3, pve1, pve2")
    assert site.running(101) == ["pve2"]


def test_service_stopped1() -> None:
    """A disabled service is not started, and is no error."""
    site = Site(guest(101, "pve1", state="disabled"), guest(102, "pve2"))
    site.play(120)
    assert site.at("vm:101") == "stopped@pve1"
    assert site.running(101) == []


def test_an_ignored_service_is_none() -> None:
    """The HA manager does not know an ignored service, and what runs goes on running; asked for, it is taken again."""
    site = Site(guest(101, "pve1"), guest(102, "pve2"))
    site.ask("vm:101", "ignored")
    site.play(30)
    assert "vm:101" not in site.status["service_status"]
    assert site.said("removing stale service 'vm:101' (ignored state requested)")
    assert site.running(101) == ["pve1"]
    assert ":qmstop:" in site.world.stop_guest(101)
    site.play(30)
    assert site.running(101) == []
    site.ask("vm:101", "started")
    site.play(60)
    assert site.said("adding new service 'vm:101' on node 'pve1'")
    assert site.healthy()


def test_a_removed_service_is_forgotten() -> None:
    """A service taken out of the configuration leaves the manager's status, and its guest runs on."""
    site = Site(guest(101, "pve1"), guest(102, "pve2"))
    del site.world.pmxcfs.store.resources["vm:101"]
    site.play(30)
    assert site.said("removing stale service 'vm:101' (no config)")
    assert site.running(101) == ["pve1"]


def test_a_stopped_service_moves_with_its_node() -> None:
    """A stopped service of a dead node is recovered to another one and stays stopped; a disabled one stays there."""
    site = Site(guest(101, "pve1", state="stopped"), guest(102, "pve2"), guest(103, "pve3"), guest(104, "pve1"))
    site.ask("vm:104", "disabled")
    site.play(60)
    victim = "pve1"
    site.cut(victim)
    site.play(240)
    assert site.service("vm:101")["state"] == "stopped"
    assert site.service("vm:101")["node"] != victim
    assert site.at("vm:104") == "stopped@pve1"


@pytest.mark.parametrize("strict", [True, False])
def test_recovery_without_a_node(strict: bool) -> None:
    """No node may take the service: it stays in `recovery`, one error a round, until the old node is back."""
    rule = {"name": "pin", "affinity": "node", "guests": ["vm:101"], "nodes": ["pve3"], "strict": strict}
    site = Site(guest(101, "pve3"), guest(102, "pve1"), guest(103, "pve2"), rules=[rule], seed=3)
    start = site.cut("pve3")
    site.play(400)
    if not strict:
        assert site.service("vm:101")["state"] == "started"
        return
    assert site.at("vm:101") == "recovery@pve3"
    said = site.said("recovering service 'vm:101' from fenced node 'pve3' failed, no recovery node found", since=start)
    gaps = [later - sooner for sooner, later in pairwise(said)]
    assert len(said) >= 10
    assert all(9.9 <= gap <= 10.2 or gap < 0.1 for gap in gaps)
    site.command("migrate vm:101 pve1")
    site.ask("vm:101", "stopped")
    site.play(30)
    assert site.at("vm:101") == "recovery@pve3"
    site.ask("vm:101", "started")
    site.power_on("pve3")
    site.play(200)
    assert site.said("recover service 'vm:101' to previous failed and fenced node 'pve3' again")
    assert site.healthy()


def test_recovery4_disabling_ends_it() -> None:
    """A service that no node can take leaves `recovery` when it is disabled."""
    rule = {"name": "pin", "affinity": "node", "guests": ["vm:101"], "nodes": ["pve3"], "strict": True}
    site = Site(guest(101, "pve3"), guest(102, "pve1"), rules=[rule], seed=3)
    site.cut("pve3")
    site.play(240)
    assert site.at("vm:101") == "recovery@pve3"
    site.ask("vm:101", "disabled")
    site.play(15)
    assert site.at("vm:101") == "stopped@pve3"


def test_lrm_going_idle1() -> None:
    """After 60 rounds without a service an LRM lets go of lock and watchdog."""
    site = Site(guest(101, "pve1"), guest(102, "pve2"))
    start = site.now
    site.command("migrate vm:102 pve1")
    site.play(900)
    (idle,) = site.said("node had no service configured for 60 rounds, going idle.", on="pve2")
    assert 600 <= idle - start - site.became(start, "vm:102", "started") <= 630
    node = site.world.nodes["pve2"]
    assert (node.lrm_state, node.watchdog_active) == ("wait_for_agent_lock", False)
    assert "ha_agent_pve2_lock" not in site.world.pmxcfs.store.locks


def test_crm_going_idle1() -> None:
    """After 90 rounds without a service nobody is master; a new service brings one back."""
    site = Site(guest(101, "pve1"))
    start = site.now
    saved = site.world.pmxcfs.store.resources.pop("vm:101")
    site.play(1200)
    (idle,) = site.said("cluster had no service configured for 90 rounds, going idle.")
    assert 895 <= idle - start <= 935
    assert {node.crm_state for node in site.world.nodes.values()} == {"wait_for_quorum"}
    site.world.pmxcfs.store.resources["vm:101"] = saved
    site.play(60)
    assert [node.crm_state for node in site.world.nodes.values()].count("master") == 1
    assert site.healthy()


def test_a_site_without_services_has_no_master() -> None:
    """Where no guest is under HA nobody is master and no watchdog is open."""
    site = Site(guest(101, "pve1", ha=False))
    site.play(300)
    assert {node.crm_state for node in site.world.nodes.values()} == {"wait_for_quorum"}
    assert not any(node.watchdog_active for node in site.world.nodes.values())


def test_max_workers_at_a_time() -> None:
    """A node that gets many services back starts four at a time."""
    many = [guest(100 + i, "pve3", acpi=False) for i in range(1, 13)]
    site = Site(*many, guest(201, "pve1"), guest(202, "pve2"), seed=5)
    for one in many:
        site.ask(f"vm:{one['vmid']}", "stopped")
    start = site.now
    site.play(400)
    stops = [at for at, kind, data in site.truth if kind == "guest_process_stop" and at > start]
    waves = [stops[i : i + 4] for i in range(0, 12, 4)]
    assert all(wave[-1] - wave[0] < 1 for wave in waves)
    assert all(60 <= later[0] - sooner[0] <= 75 for sooner, later in pairwise(waves))


def test_guest_requests_go_through_the_manager() -> None:
    """Stop and shutdown of an HA guest are tasks that are OK at once; the request is then what the manager is told."""
    site = Site(guest(101, "pve1"), guest(102, "pve2"))
    upid = site.world.stop_guest(101)
    task = next(task for task in site.world.nodes["pve1"].tasks if task.upid == upid)
    assert (task.type, task.exitstatus, task.log) == ("hastop", "OK", ["Requesting HA stop for VM 101", "TASK OK"])
    assert site.running(101) == ["pve1"]
    site.play(40)
    assert site.said("request immediate service hard-stop for service 'vm:101'")
    assert site.world.pmxcfs.store.resources["vm:101"]["state"] == "stopped"
    assert (site.at("vm:101"), site.running(101)) == ("stopped@pve1", [])
