"""The world's histories: after each fault, the times and states of a real control plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.defects import DEFECTS
from pytest_pveha.sim.spec import SiteSpec
from pytest_pveha.sim.timeline import Timeline
from pytest_pveha.sim.world import Node, Refused, World

SEEDS = range(1, 61)
ROOT = Path(__file__).parents[2]


@dataclass
class Site:
    """A world with its truth written down: (seconds, kind, data)."""

    seed: int = 1
    defects: tuple[str, ...] = ()
    boot_seconds: float = 210.0
    truth: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.timeline = Timeline()
        spec = SiteSpec.from_json(
            {
                "name": "lab",
                "cluster": "lab",
                "seed": self.seed,
                "defects": list(self.defects),
                "nodes": [{"name": f"pve{i}", "nodeid": i, "boot_seconds": self.boot_seconds} for i in (1, 2, 3)],
                "guests": [
                    {"vmid": 101, "name": "shop", "node": "pve1"},
                    {"vmid": 102, "name": "build", "node": "pve2", "ha": False},
                    {"vmid": 103, "name": "mail", "node": "pve3"},
                    {"vmid": 104, "name": "dns", "node": "pve2", "kind": "ct"},
                ],
            }
        )
        self.world = World(spec, self.timeline, self.note)
        # faults come at any phase of the daemons' rounds
        self.play(60.0 + self.seed * 7.31 % 20)

    def note(self, kind: str, data: dict[str, Any]) -> None:
        self.truth.append((self.now, kind, dict(data)))

    @property
    def now(self) -> float:
        return self.timeline.now / SECOND

    @property
    def status(self) -> dict[str, Any]:
        return self.world.pmxcfs.store.manager

    @property
    def master(self) -> str:
        name: str = self.status["master_node"]
        return name

    def slave(self) -> str:
        return next(name for name in ("pve3", "pve1") if name != self.master)

    def play(self, seconds: float) -> None:
        self.timeline.run_until(self.timeline.now + round(seconds * SECOND))

    def cut(self, node: str) -> float:
        """Cut the node's power; the moment it died."""
        self.world.chassis(node, "off")
        while self.world.nodes[node].running:
            self.timeline.run_next()
        return self.now

    def since(self, start: float, kind: str, **wanted: Any) -> float | None:
        """Seconds from ``start`` to the first such truth after it."""
        for moment, what, data in self.truth:
            if moment >= start and what == kind and wanted.items() <= data.items():
                return moment - start
        return None

    def during(self, start: float, kind: str, **wanted: Any) -> float:
        found = self.since(start, kind, **wanted)
        assert found is not None, f"{kind} {wanted} never happened"
        return found

    def healthy(self) -> bool:
        nodes = self.world.nodes.values()
        services = self.status["service_status"].values()
        return (
            all(self.world.quorate(node) and len(node.members) == 3 for node in nodes)
            and set(self.status["node_status"].values()) == {"online"}
            and all(s["state"] == "started" and s.get("running") for s in services)
            and all(guest.answering for guest in self.world.guests.values())
        )


def journal(node: Node, *words: str) -> list[str]:
    return [line.text for line in node.journal if all(word in line.text for word in words)]


def test_the_site_begins_healthy_and_stays_so() -> None:
    """A site nobody touches is healthy, with one master, for an hour."""
    site = Site()
    site.play(3600)
    assert site.healthy()
    assert [n.crm_state for n in site.world.nodes.values()].count("master") == 1
    assert not [kind for _, kind, _ in site.truth if kind in ("membership", "fence", "dead", "node_state")]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slaves_power_cut(seed: int) -> None:
    """A slave's guests run elsewhere 120 to 155 s after its death, by the measured steps."""
    site = Site(seed)
    victim = site.slave()
    off = site.cut(victim)
    vmid = next(g.vmid for g in site.world.guests.values() if g.config_node == victim and g.spec.ha)
    site.play(200)
    assert 6 <= site.during(off, "membership") <= 8
    assert 6.5 <= site.during(off, "node_state", node=victim, new="unknown") <= 17.1
    assert 56.5 <= site.during(off, "fence", node=victim) <= 67.5
    assert 120 <= site.during(off, "acknowledged", node=victim) <= 140.5
    assert 120 <= site.during(off, "guest_process_start", vmid=vmid) <= 155
    assert 15 <= site.during(off, "guest_answers", vmid=vmid) - site.during(off, "guest_process_start", vmid=vmid) <= 25


@pytest.mark.parametrize("seed", SEEDS)
def test_the_masters_power_cut(seed: int) -> None:
    """The master's guests run elsewhere 175 to 205 s after its death: a new master waits its own 60 s."""
    site = Site(seed)
    victim = site.master
    off = site.cut(victim)
    site.play(260)
    vmid = next(g.vmid for g in site.world.guests.values() if g.spec.node == victim and g.spec.ha)
    assert 110 <= site.during(off, "master") <= 130
    assert site.during(off, "node_state", node=victim, new="unknown") == site.during(off, "master")
    assert site.during(off, "fence", node=victim) == site.during(off, "acknowledged", node=victim)
    assert 175 <= site.during(off, "guest_process_start", vmid=vmid) <= 205


@pytest.mark.parametrize("seed", SEEDS)
def test_an_isolated_node_resets_itself(seed: int) -> None:
    """A node cut from the others resets itself 60 to 78 s later, long before its lock is given away."""
    site = Site(seed)
    victim = site.slave()
    cut = site.now
    site.world.cut_network(victim)
    site.play(150)
    assert 60 <= site.during(cut, "watchdog_reset", node=victim) <= 78
    assert site.during(cut, "acknowledged", node=victim) >= 118
    node = site.world.nodes[victim]
    assert journal(node, "status change active => lost_agent_lock")
    assert journal(node, "watchdog is about to expire")
    assert journal(node, "watchdog expired - disable watchdog updates")


def test_an_idle_node_survives_isolation() -> None:
    """A node without HA services has no open watchdog and lives on without quorum."""
    site = Site()
    site.world.migrate_guest(104, "pve1")
    site.play(800)
    boot = site.world.nodes["pve2"].boot_id
    assert site.world.nodes["pve2"].lrm_state == "wait_for_agent_lock"
    site.world.cut_network("pve2")
    site.play(150)
    assert site.world.nodes["pve2"].boot_id == boot
    view = site.world.cluster_view(site.world.nodes["pve2"])
    assert not view.quorate
    assert view.manager_status["quorum"] == {"node": "pve2", "quorate": ""}
    assert set(view.manager_status["manager_status"]["node_status"].values()) == {"online"}
    with pytest.raises(Refused, match="no quorum"):
        site.world.start_guest(102)


def test_a_short_isolation_harms_nobody() -> None:
    """A node whose network is back within 30 s keeps its boot, its lock and its guests."""
    site = Site()
    boots = {n.name: n.boot_id for n in site.world.nodes.values()}
    site.world.cut_network("pve3")
    site.play(30)
    site.world.restore_network("pve3")
    site.play(60)
    assert site.healthy()
    assert boots == {n.name: n.boot_id for n in site.world.nodes.values()}


@pytest.mark.parametrize("seed", range(1, 16))
def test_power_on_brings_the_node_back(seed: int) -> None:
    """Powered on again, the node boots, joins, is online to the HA manager, and its guests stay where they are."""
    site = Site(seed)
    victim = site.slave()
    old = site.world.nodes[victim].boot_id
    site.cut(victim)
    site.play(200)
    start = site.now
    site.world.chassis(victim, "on")
    site.play(320)
    node = site.world.nodes[victim]
    userland = site.during(start, "booted", node=victim)
    assert 200 <= userland <= 220
    assert 8 <= site.during(start, "joined", node=victim) - userland <= 10
    assert 8 <= site.during(start, "node_state", node=victim, new="online") - userland <= 21
    assert node.boot_id != old
    assert node.lrm_state == "wait_for_agent_lock"
    assert site.healthy()
    moved = [g for g in site.world.guests.values() if g.spec.ha and g.spec.node == victim]
    assert all(g.config_node != victim for g in moved)


def test_right_after_boot_the_node_list_says_unknown() -> None:
    """Until pvestatd has sent numbers the node is shown as unknown, 8 to 16 s after the boot."""
    site = Site()
    victim = site.slave()
    site.cut(victim)
    site.play(100)
    other = site.world.nodes[site.master]
    assert site.world.cluster_view(other).node_status[victim] == "offline"
    site.world.chassis(victim, "on")
    while site.since(0, "joined", node=victim) is None:
        site.timeline.run_next()
    assert site.world.cluster_view(other).node_status[victim] == "unknown"
    site.play(10)
    assert site.world.cluster_view(other).node_status[victim] == "online"


@pytest.mark.parametrize("seed", range(1, 16))
def test_a_service_waits_for_the_lock_of_a_returned_node(seed: int) -> None:
    """A fenced node that is soon back cannot have its own lock until the master's claim on it has expired."""
    site = Site(seed, boot_seconds=20)
    victim = site.slave()
    off = site.cut(victim)
    site.play(160)
    taken = off + site.during(off, "acknowledged", node=victim)
    site.world.chassis(victim, "on")
    site.play(50)
    vmid = next(g.vmid for g in site.world.guests.values() if g.spec.node == victim and g.spec.ha)
    site.world.migrate_guest(vmid, victim)
    site.play(200)
    own = taken + site.during(taken + 1, "lock", lock=f"ha_agent_{victim}_lock", node=victim, what="taken") + 1
    # the returned node may be the judge of all locks, and counts from its own start
    assert 120 <= own - taken <= 195


@pytest.mark.parametrize("seed", range(1, 16))
def test_whole_cluster_power_loss(seed: int) -> None:
    """After a loss of all power, HA is back about 123 s after userland: stale locks hold everything up."""
    site = Site(seed)
    for name in site.world.nodes:
        site.cut(name)
    site.play(30)
    for name in site.world.nodes:
        site.world.chassis(name, "on")
    start = site.now
    site.play(400)
    userland = min(moment for moment, kind, _ in site.truth if kind == "booted")
    assert 118 <= site.during(start, "guest_process_start", vmid=101) + start - userland <= 150
    assert 118 <= site.during(start, "master") + start - userland <= 140
    assert site.healthy()


def test_two_nodes_lost_takes_the_third() -> None:
    """Without quorum nothing is fenced or recovered, and the last node with services resets itself."""
    site = Site()
    first, second = [n for n in site.world.nodes if n != "pve3"]
    cut = site.cut(first)
    site.cut(second)
    site.play(120)
    assert 55 <= site.during(cut, "watchdog_reset", node="pve3") <= 85
    assert site.since(cut, "fence") is None


def test_journal_speaks_the_production_words() -> None:
    """The survivors' journals carry the lines operators and audits look for, with the daemons' pids."""
    site = Site(2)
    victim = site.slave()
    site.cut(victim)
    site.play(170)
    master = site.world.nodes[site.master]
    assert journal(master, f"node '{victim}': state changed from 'online' => 'unknown'")
    assert journal(master, f"node '{victim}': state changed from 'unknown' => 'fence'")
    assert journal(master, f"fencing: acknowledged - got agent lock for node '{victim}'")
    assert journal(master, "recover service 'vm:", f"from fenced node '{victim}' to node '")
    assert journal(master, "Failed to receive the leave message. failed:")
    assert any(journal(n, "starting service vm:") for n in site.world.nodes.values())
    assert any(journal(n, "started with PID") for n in site.world.nodes.values())
    crm = {line.pid for line in master.journal if line.ident == "pve-ha-crm"}
    assert crm == {master.units["pve-ha-crm"].pid}
    assert {line.unit for line in master.journal if line.ident == "pmxcfs"} == {"pve-cluster"}


def test_tasks_are_listed_with_their_log() -> None:
    """A recovered guest's start is a qmstart task with a well-formed UPID and an OK."""
    site = Site(2)
    site.cut(site.slave())
    site.play(170)
    view = site.world.cluster_view(site.world.nodes[site.master])
    task = view.tasks[0]
    assert task.type == "qmstart"
    assert task.upid.startswith(f"UPID:{task.node}:{task.pid:08X}:{task.pstart:08X}:{task.starttime:08X}:qmstart:")
    assert (task.exitstatus, task.log) == ("OK", ["TASK OK"])


def test_manager_status_has_the_recorded_shape() -> None:
    """The manager's status has the keys and types a control plane shows, and a recovered service shows no `running`."""
    site = Site(2)
    data = site.world.cluster_view(site.world.nodes["pve1"]).manager_status
    assert set(data) == {"lrm_status", "manager_status", "quorum"}
    assert data["quorum"] == {"node": "pve1", "quorate": "1"}
    assert set(data["manager_status"]) == {"master_node", "node_status", "service_status", "timestamp"}
    service = data["manager_status"]["service_status"]["vm:101"]
    assert set(service) == {"node", "running", "state", "uid"}
    assert len(service["uid"]) == 22
    lrm = data["lrm_status"]["pve1"]
    assert set(lrm) == {"mode", "results", "state", "timestamp"}
    assert [r for r in lrm["results"].values() if r["sid"] == "vm:101"] == [
        {"exit_code": 0, "sid": "vm:101", "state": "started"}
    ]
    site.cut(site.slave())
    while site.since(0, "recovery") is None:
        site.timeline.run_next()
    moved = next(d["sid"] for _, kind, d in site.truth if kind == "recovery")
    assert "running" not in site.status["service_status"][moved]
    site.play(30)
    assert site.status["service_status"][moved]["running"] == 1


def test_a_bmc_takes_its_time_and_one_command_after_the_other() -> None:
    """The chassis reads on until the cut takes effect 1 to 3 s later; an `on` sent meanwhile comes after it."""
    site = Site()
    start = site.now
    site.world.chassis("pve1", "off")
    site.world.chassis("pve1", "on")
    assert site.world.nodes["pve1"].chassis_on
    site.play(10)
    assert 1 <= site.during(start, "power_off") <= 3
    assert site.world.nodes["pve1"].chassis_on
    assert not site.world.ssh_reachable("pve1")
    assert site.world.bmc_reachable("pve1")


def test_reachability_follows_the_boot() -> None:
    """SSH answers at userland, the API some 10 s later."""
    site = Site()
    site.cut("pve1")
    assert not site.world.ssh_reachable("pve1")
    assert not site.world.api_reachable("pve1")
    assert not site.world.guest_answering(101)
    site.world.chassis("pve1", "on")
    while not site.world.ssh_reachable("pve1"):
        site.timeline.run_next()
    userland = site.now
    while not site.world.api_reachable("pve1"):
        site.timeline.run_next()
    assert 9 <= site.now - userland <= 11


def test_a_migration_takes_about_half_a_minute_and_hardly_an_outage() -> None:
    """An HA guest asked to move runs on the other node within 45 s, and is silent for 30 to 150 ms."""
    site = Site(3)
    start = site.now
    upid = site.world.migrate_guest(101, "pve3")
    assert ":hamigrate:101:" in upid
    site.play(45)
    assert site.world.guests[101].config_node == "pve3"
    assert list(site.world.guests[101].processes) == ["pve3"]
    silent = site.during(start, "guest_silent", vmid=101)
    assert 0.03 <= site.during(start, "guest_answers", vmid=101, node="pve3") - silent <= 0.15
    assert site.status["service_status"]["vm:101"]["node"] == "pve3"
    assert site.healthy()


def test_a_container_is_relocated() -> None:
    """A container moves by stop and start."""
    site = Site(3)
    start = site.now
    site.world.migrate_guest(104, "pve3")
    site.play(80)
    assert list(site.world.guests[104].processes) == ["pve3"]
    assert site.since(start, "guest_silent", vmid=104) is not None
    assert site.healthy()


def test_a_killed_guest_is_started_again() -> None:
    """A killed HA guest runs again within a round, and its state stays `started`."""
    site = Site()
    start = site.now
    site.world.kill_guest(101, "pve1")
    site.play(40)
    assert site.during(start, "guest_process_start", vmid=101) <= 11
    assert site.since(start, "service_state") is None
    assert site.healthy()


def test_stop_and_start_of_an_ha_guest() -> None:
    """An HA guest asked to stop becomes `stopped`; asked to start it runs again."""
    site = Site()
    assert ":hastop:101:" in site.world.stop_guest(101)
    site.play(40)
    assert site.status["service_status"]["vm:101"]["state"] == "stopped"
    assert not site.world.guests[101].processes
    site.world.start_guest(101)
    site.play(60)
    assert site.healthy()


def test_guests_without_ha_start_again_at_boot() -> None:
    """A guest without HA stays on its dead node and starts again when that has booted."""
    site = Site()
    site.cut("pve2")
    site.play(200)
    assert site.world.guests[102].config_node == "pve2"
    assert not site.world.guests[102].processes
    site.world.chassis("pve2", "on")
    site.play(400)
    assert site.healthy()


def test_a_soft_power_off_releases_the_locks() -> None:
    """After an ACPI shutdown the services are recovered as soon as the 60 s have passed: the lock is free."""
    site = Site()
    victim = site.slave()
    start = site.now
    site.world.chassis(victim, "soft")
    site.play(120)
    assert not site.world.nodes[victim].chassis_on
    assert 60 <= site.during(start, "acknowledged", node=victim) <= 95
    assert site.since(start, "watchdog_reset") is None


def test_a_reset_node_changes_its_boot_id() -> None:
    """A reset keeps the chassis on and gives a new boot id."""
    site = Site(boot_seconds=30)
    old = site.world.nodes["pve1"].boot_id
    site.world.chassis("pve1", "reset")
    site.play(60)
    assert site.world.nodes["pve1"].chassis_on
    assert site.world.nodes["pve1"].boot_id != old
    site.play(200)
    assert site.healthy()


def test_the_same_seed_plays_the_same_history() -> None:
    """Two worlds of one seed agree in every truth and journal line; another seed differs."""

    def history(seed: int) -> tuple[Any, ...]:
        site = Site(seed)
        site.cut("pve1")
        site.play(300)
        return site.truth, [node.journal for node in site.world.nodes.values()]

    assert history(5) == history(5)
    assert history(5) != history(6)


# planted defects


def test_unknown_defects_are_named() -> None:
    """A defect we do not know is refused, with those we know."""
    with pytest.raises(ValueError, match=r"unknown defect no-such; known: never-fences, .*bmc-unreachable"):
        Site(defects=("no-such",))


def test_every_defect_says_who_catches_it() -> None:
    """Each entry names a test that is there and one of the verdicts; what is told and decides nothing is accepted."""
    for name, defect in DEFECTS.items():
        assert defect.name == name
        assert (ROOT / defect.caught_by).is_file()
        assert defect.verdict in ("rejected", "invalid", "inconclusive", "not proven", "dirty", "accepted")
        assert defect.meaning
        assert defect.how_it_comes_about


@pytest.mark.parametrize("seed", range(1, 11))
def test_never_fences(seed: int) -> None:
    """The dead node stays unknown; back again it starts its guests itself, and the site is whole."""
    site = Site(seed, ("never-fences",))
    off = site.cut(victim := site.slave())
    site.play(300)
    assert site.since(off, "fence") is None
    assert site.since(off, "guest_process_start") is None
    assert site.status["node_status"][victim] == "unknown"
    site.world.chassis(victim, "on")
    site.play(420)
    assert site.healthy()


@pytest.mark.parametrize("seed", range(1, 11))
def test_guest_does_not_restart(seed: int) -> None:
    """The recovered guest cannot start where it is put and ends in error; disabled and moved home it runs again."""
    site = Site(seed, ("guest-does-not-restart",))
    off = site.cut(victim := site.slave())
    vmid = next(g.vmid for g in site.world.guests.values() if g.spec.node == victim and g.spec.ha)
    site.play(300)
    assert site.since(off, "recovery", vmid=vmid) is not None
    assert site.since(off, "guest_process_start", vmid=vmid) is None
    assert any(journal(n, "unable to start service") for n in site.world.nodes.values())
    site.world.chassis(victim, "on")
    site.play(300)
    resource = site.world.pmxcfs.store.resources[f"vm:{vmid}"]
    assert site.status["service_status"][f"vm:{vmid}"]["state"] == "error"
    resource["state"] = "disabled"
    site.play(30)
    site.world.migrate_guest(vmid, victim)
    site.play(90)
    resource["state"] = "started"
    site.play(240)
    assert site.healthy()


def test_slow_recovery() -> None:
    """The recovered guest's process runs in time, and its application answers ten minutes late."""
    site = Site(1, ("slow-recovery",))
    off = site.cut(site.slave())
    site.play(900)
    start = site.during(off, "guest_process_start")
    assert start <= 155
    assert 600 <= site.during(off, "guest_answers") - start <= 640


@pytest.mark.parametrize("role", ["slave", "master"])
@pytest.mark.parametrize("seed", range(1, 11))
def test_other_node_reboots_too(seed: int, role: str) -> None:
    """Another node has a new boot id within a minute, no third one, and the guests are recovered."""
    site = Site(seed, ("other-node-reboots-too",))
    victim = site.master if role == "master" else site.slave()
    boots = {n.name: n.boot_id for n in site.world.nodes.values()}
    off = site.cut(victim)
    site.play(60)
    changed = [n.name for n in site.world.nodes.values() if n.name != victim and n.boot_id != boots[n.name]]
    assert len(changed) == 1
    site.play(240)
    assert [n for n, boot in boots.items() if n != victim and site.world.nodes[n].boot_id != boot] == changed
    assert site.during(off, "guest_process_start") <= 230
    site.world.chassis(victim, "on")
    site.play(420)
    assert site.healthy()


@pytest.mark.parametrize("role", ["slave", "master"])
@pytest.mark.parametrize("seed", range(1, 11))
def test_recovers_before_death(seed: int, role: str) -> None:
    """The guest runs elsewhere seconds after the membership loss, while the dead node's lock is still young."""
    site = Site(seed, ("recovers-before-death",))
    victim = site.master if role == "master" else site.slave()
    off = site.cut(victim)
    site.play(60)
    start = site.during(off, "guest_process_start") - site.during(off, "membership")
    assert 2 <= start <= 15
    assert site.since(off, "acknowledged", node=victim) is not None
    site.world.chassis(victim, "on")
    site.play(400)
    assert site.healthy()


def test_recovers_before_death_runs_a_guest_twice() -> None:
    """With the network cut instead of the power, that defect has a guest on two nodes at once."""
    site = Site(1, ("recovers-before-death",))
    victim = site.slave()
    site.world.cut_network(victim)
    site.play(40)
    assert any(len(guest.processes) == 2 for guest in site.world.guests.values())


def test_bmc_ignores_power_off() -> None:
    """The command is accepted and the machine keeps running."""
    site = Site(1, ("bmc-ignores-power-off",))
    site.world.chassis("pve1", "off")
    site.play(60)
    assert site.world.nodes["pve1"].chassis_on
    assert site.healthy()


def test_bmc_unreachable() -> None:
    """No BMC answers, everything else does."""
    site = Site(1, ("bmc-unreachable",))
    assert not any(site.world.bmc_reachable(name) for name in site.world.nodes)
    assert site.healthy()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": []}, "at least one node"),
        ({"colour": 1}, "unknown key colour"),
        ({"nodes": [{"name": "a", "nodeid": 1}, {"name": "a", "nodeid": 2}]}, "node name used twice: a"),
        ({"guests": [{"vmid": 1, "name": "x", "node": "b"}]}, "node 'b' does not exist; known: a"),
        ({"guests": [{"vmid": 1, "name": "x"}]}, "GuestSpec: node missing"),
        ({"guests": [{"vmid": 1, "name": "x", "node": "a", "kind": "cd"}]}, "neither 'vm' nor 'ct'"),
    ],
)
def test_a_wrong_spec_is_refused(change: dict[str, Any], message: str) -> None:
    """A spec that makes no sense is a ValueError that says why."""
    plain = {"name": "s", "cluster": "c", "nodes": [{"name": "a", "nodeid": 1}], **change}
    with pytest.raises(ValueError, match=message):
        SiteSpec.from_json(plain)
