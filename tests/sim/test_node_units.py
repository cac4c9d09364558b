"""systemd of a node: timers that fire, units that survive a boot or do not, and what daemons mean to the cluster."""

from __future__ import annotations

import re

import pytest

from tests.sim.servers_kit import PlayingGate, shell, small_site, told

TAG = "pveha-4312a98e-partition-1"
SCRIPT = "/var/lib/pveha/4312a98e/partition-1.sh"
ARM = f"systemd-run --quiet --collect --unit={TAG} --on-active=620 --timer-property=AccuracySec=100ms /bin/sh {SCRIPT}"
SERVICE = f"[Unit]\nDescription=undo\n[Service]\nType=oneshot\nExecStart=/bin/sh {SCRIPT}\n"
TIMER = "[Timer]\nOnActiveSec=1860\nAccuracySec=100ms\n[Install]\nWantedBy=timers.target\n"
UNITS = "/etc/systemd/system"


@pytest.fixture
def gate() -> PlayingGate:
    """A healthy site."""
    return PlayingGate(small_site())


def stored(gate: PlayingGate, script: str, node: str = "pve3") -> None:
    """The node has that script where the dead-man looks for it."""
    told(gate, f"mkdir -p /var/lib/pveha/4312a98e && cat > {SCRIPT} && sync {SCRIPT}", node, given=script)


def persistent(gate: PlayingGate, node: str = "pve3") -> None:
    """The node has the unit files of a dead-man that survives boots, and has enabled it."""
    told(gate, f"cat > {UNITS}/{TAG}.service && sync {UNITS}/{TAG}.service", node, given=SERVICE)
    told(gate, f"cat > {UNITS}/{TAG}.timer && sync {UNITS}/{TAG}.timer", node, given=TIMER)
    assert shell(gate, f"systemctl daemon-reload && systemctl enable --now {TAG}.timer", node).status == 0


# --- timers -----------------------------------------------------------------------------------------------------------


def test_a_transient_timer_fires_once_and_is_gone(gate: PlayingGate) -> None:
    """It waits, says when it elapses, runs the script at that time, and leaves nothing loaded."""
    stored(gate, "#!/bin/sh\n# undo\ndate +%s > /var/lib/fired\necho undone\n")
    told(gate, ARM, "pve3")
    began = gate.world.utc(gate.world.nodes["pve3"])
    assert told(gate, f"systemctl is-active {TAG}.timer", "pve3") == "active\n"
    shown = told(gate, f"systemctl show -p ActiveState -p NextElapseUSecMonotonic {TAG}.timer", "pve3")
    assert re.fullmatch(r"NextElapseUSecMonotonic=(\d+\w+ )*\d+(\.\d{6})?s\nActiveState=active\n", shown)
    listed = told(gate, "systemctl list-units --all --no-legend --plain 'pveha-*'", "pve3")
    assert [line.split()[:4] for line in listed.splitlines()] == [
        [f"{TAG}.service", "loaded", "inactive", "dead"],
        [f"{TAG}.timer", "loaded", "active", "waiting"],
    ]
    timers = told(gate, "systemctl list-timers --all --no-legend 'pveha-*'", "pve3")
    assert timers.endswith(f" {TAG}.timer {TAG}.service\n")
    gate.play(619)
    assert shell(gate, "test -e /var/lib/fired", "pve3").status == 1
    gate.play(2)
    assert int(told(gate, "cat /var/lib/fired", "pve3")) == pytest.approx(began + 620, abs=1.2)
    assert told(gate, "systemctl list-units --all --no-legend --plain 'pveha-*'", "pve3") == ""
    assert shell(gate, f"systemctl is-active {TAG}.timer", "pve3").status == 4
    assert "undone" in told(gate, f"journalctl -t {TAG} -o cat", "pve3")


def test_a_timer_without_accuracy_may_be_a_minute_late(gate: PlayingGate) -> None:
    """Whoever sets no AccuracySec gets systemd's: up to one minute after the time."""
    late = []
    for number in range(8):
        told(gate, f"systemd-run --quiet --unit=late{number} --on-active=10 touch /var/lib/late{number}")
    for second in range(75):
        gate.play(1)
        late += [second] * (len(told(gate, "ls -1 /var/lib").split()) - len(late))
    assert len(late) == 8
    assert max(late) > 20
    assert min(late) >= 9
    assert max(late) <= 71


def test_a_second_timer_of_the_same_name_is_refused(gate: PlayingGate) -> None:
    """systemd-run refuses a unit that is loaded, and it can be armed again once it was stopped."""
    told(gate, ARM)
    again = shell(gate, ARM)
    why = f"Unit {TAG}.timer was already loaded or has a fragment file.\n"
    assert (again.status, again.err) == (1, f"Failed to start transient timer unit: {why}")
    both = shell(gate, f"systemctl stop {TAG}.timer {TAG}.service")
    assert (both.status, both.err) == (5, f"Failed to stop {TAG}.service: Unit {TAG}.service not loaded.\n")
    assert shell(gate, f"systemctl is-active {TAG}.timer").out == "inactive\n"
    stopped = shell(gate, f"systemctl stop {TAG}.timer {TAG}.service")
    assert stopped.status == 5
    assert f"Failed to stop {TAG}.timer: Unit {TAG}.timer not loaded.\n" in stopped.err
    told(gate, ARM)


def test_a_stopped_timer_does_not_fire(gate: PlayingGate) -> None:
    """What was disarmed stays undone."""
    stored(gate, "touch /var/lib/fired\n", "pve1")
    told(gate, ARM)
    gate.play(600)
    told(gate, f"systemctl stop {TAG}.timer")
    gate.play(60)
    assert shell(gate, "test -e /var/lib/fired").status == 1


def test_a_transient_timer_dies_with_its_node(gate: PlayingGate) -> None:
    """After a reset nothing is armed and nothing fires."""
    stored(gate, "touch /var/lib/fired\n")
    told(gate, ARM, "pve3")
    gate.world.chassis("pve3", "reset")
    gate.play(700)
    assert shell(gate, f"systemctl is-active {TAG}.timer", "pve3").status == 4
    assert shell(gate, "test -e /var/lib/fired", "pve3").status == 1


def test_an_enabled_timer_is_armed_again_at_boot(gate: PlayingGate) -> None:
    """A dead-man with unit files waits anew after each boot, and fires that much later."""
    stored(gate, "touch /var/lib/fired\n")
    persistent(gate)
    gate.play(1000)
    gate.kill("pve3")
    gate.revive("pve3")
    assert told(gate, f"systemctl is-active {TAG}.timer", "pve3") == "active\n"
    gate.play(1855)
    assert shell(gate, "test -e /var/lib/fired", "pve3").status == 1
    gate.play(10)
    assert shell(gate, "test -e /var/lib/fired", "pve3").status == 0
    assert told(gate, f"systemctl show -p SubState --value {TAG}.timer", "pve3") == "elapsed\n"


def test_a_disabled_timer_is_gone_for_good(gate: PlayingGate) -> None:
    """disable --now stops the timer and takes its link; after a boot nothing waits."""
    stored(gate, "touch /var/lib/fired\n")
    persistent(gate)
    gate.play(60)
    assert f"{TAG}.timer" in told(gate, f"ls -1 {UNITS}/timers.target.wants", "pve3")
    done = shell(gate, f"systemctl disable --now {TAG}.timer", "pve3")
    assert (done.status, done.err) == (0, f"Removed '{UNITS}/timers.target.wants/{TAG}.timer'.\n")
    assert shell(gate, f"systemctl is-active {TAG}.timer", "pve3").status == 3
    told(gate, f"rm -f {UNITS}/{TAG}.timer {UNITS}/{TAG}.service && sync {UNITS}", "pve3")
    gate.world.chassis("pve3", "reset")
    gate.play(2100)
    assert shell(gate, "test -e /var/lib/fired", "pve3").status == 1
    gone = shell(gate, f"systemctl disable --now {TAG}.timer", "pve3")
    assert (gone.status, gone.err) == (1, f"Failed to disable unit: Unit {TAG}.timer does not exist\n")


def test_a_failed_script_is_seen(gate: PlayingGate) -> None:
    """A service whose script fails is failed until that is reset; its timer's own state is elapsed."""
    stored(gate, "nonsense\n")
    persistent(gate)
    gate.play(1870)
    assert told(gate, f"systemctl is-failed {TAG}.service", "pve3") == "failed\n"
    shown = told(gate, f"systemctl show -p Result -p ExecMainStatus {TAG}.service", "pve3")
    assert shown == "Result=exit-code\nExecMainStatus=127\n"
    assert "command not found" in told(gate, f"journalctl -t {TAG} -o cat", "pve3")
    told(gate, f"systemctl reset-failed {TAG}.service", "pve3")
    assert shell(gate, f"systemctl is-failed {TAG}.service", "pve3").out == "inactive\n"
    assert shell(gate, "systemctl reset-failed nonsense.service", "pve3").status == 1


def test_a_script_takes_its_time(gate: PlayingGate) -> None:
    """What a unit runs sleeps in site time while the node goes on, and ends with its node."""
    stored(gate, "sleep 30\ntouch /var/lib/fired\n")
    told(gate, ARM, "pve3")
    gate.play(630)
    assert shell(gate, f"systemctl is-active {TAG}.service", "pve3").out == "activating\n"
    gate.play(25)
    assert shell(gate, "test -e /var/lib/fired", "pve3").status == 0
    told(gate, f"rm /var/lib/fired; sync /var/lib; {ARM}", "pve3")
    gate.play(630)
    gate.world.chassis("pve3", "reset")
    gate.play(120)
    assert shell(gate, "test -e /var/lib/fired", "pve3").status == 1


def test_the_planted_dead_timer() -> None:
    """With the defect a timer is armed and says so, and its time passes."""
    gate = PlayingGate(small_site(defects=["timers-never-fire"]))
    stored(gate, "touch /var/lib/fired\n", "pve1")
    told(gate, ARM)
    gate.play(700)
    assert told(gate, f"systemctl is-active {TAG}.timer") == "active\n"
    assert shell(gate, "test -e /var/lib/fired").status == 1


# --- daemons ----------------------------------------------------------------------------------------------------------


def resets_after(gate: PlayingGate, node: str, within: float) -> float | None:
    """Seconds until that node is reset; None if it is not within that time."""
    boot, began = gate.world.nodes[node].boot_id, gate.world.timeline.now
    for _ in range(round(within * 4)):
        machine = gate.world.nodes[node]
        if not machine.running or machine.boot_id != boot:
            return (gate.world.timeline.now - began) / 1e9
        gate.play(0.25)
    return None


@pytest.mark.parametrize(
    ("line", "least", "most"),
    [
        ("systemctl kill -s KILL --kill-whom=main pve-ha-lrm", 8, 10.5),
        ("systemctl kill -s KILL --kill-whom=main watchdog-mux", 8, 10.5),
        ("systemctl kill -s STOP --kill-whom=main watchdog-mux", 8, 10.5),
        ("systemctl stop watchdog-mux", 8, 10.5),
        ("systemctl kill -s STOP --kill-whom=main pve-ha-lrm", 58, 72),
        ("systemctl stop corosync", 58, 78.5),
        ("systemctl kill -s KILL --kill-whom=main corosync", 58, 78.5),
        ("systemctl kill -s STOP --kill-whom=main corosync", 58, 78.5),
        ("systemctl stop pve-cluster", 58, 78.5),
    ],
)
def test_what_costs_an_active_node_its_life(gate: PlayingGate, line: str, least: float, most: float) -> None:
    """A node with HA guests resets itself: in ten seconds without a multiplexer, in a minute without a fed one."""
    gate.play(7)
    told(gate, line, "pve3")
    seconds = resets_after(gate, "pve3", 120)
    assert seconds is not None
    assert least <= seconds <= most


@pytest.mark.parametrize(
    "line",
    [
        "systemctl stop pve-ha-lrm",
        "systemctl stop pveproxy",
        "systemctl stop sshd",
        "systemctl kill -s KILL pve-cluster",
        "systemctl restart corosync",
        "systemctl restart pve-ha-lrm",
    ],
)
def test_what_a_node_survives(gate: PlayingGate, line: str) -> None:
    """A clean stop of the LRM closes its watchdog, and other daemons can be missed or come back in time."""
    gate.play(7)
    told(gate, line, "pve3")
    assert resets_after(gate, "pve3", 150) is None


def test_a_restarted_lrm_serves_again(gate: PlayingGate) -> None:
    """Stopped and started, the LRM takes its lock again and its guest has never stopped."""
    gate.play(7)
    process = gate.world.guests[103].processes["pve3"]
    told(gate, "systemctl restart pve-ha-lrm", "pve3")
    gate.until(lambda: gate.world.nodes["pve3"].lrm_state == "active", 60)
    assert gate.world.guests[103].processes["pve3"] is process


def test_an_idle_node_survives_without_corosync(gate: PlayingGate) -> None:
    """A node without HA guests does not reset itself; started again, corosync joins the others."""
    gate.play(10)
    told(gate, "systemctl stop corosync", "pve2")
    assert resets_after(gate, "pve2", 120) is None
    assert shell(gate, "corosync-quorumtool -s", "pve2").status == 1
    assert "Permission denied" in shell(gate, "touch /etc/pve/x", "pve2").err
    assert shell(gate, "systemctl is-active corosync", "pve2").out == "inactive\n"
    told(gate, "systemctl start corosync", "pve2")
    gate.play(10)
    assert shell(gate, "corosync-quorumtool -s", "pve2").status == 0
    told(gate, "touch /etc/pve/x", "pve2")


def test_an_idle_node_goes_on_after_standing_still(gate: PlayingGate) -> None:
    """corosync that stood still for a minute is outside, and joins again when it goes on."""
    gate.play(10)
    told(gate, "systemctl kill -s STOP --kill-whom=main corosync", "pve2")
    gate.play(60)
    assert len(gate.world.nodes["pve1"].members) == 2
    told(gate, "systemctl kill -s CONT --kill-whom=main corosync", "pve2")
    gate.play(10)
    assert len(gate.world.nodes["pve1"].members) == 3
    assert len(gate.world.nodes["pve2"].members) == 3
    told(gate, "touch /etc/pve/x", "pve2")


def test_a_stopped_lrm_that_goes_on_in_time_feeds_again(gate: PlayingGate) -> None:
    """Forty seconds without feeding are survived, and the service stays."""
    gate.play(7)
    told(gate, "systemctl kill -s STOP --kill-whom=main pve-ha-lrm", "pve3")
    gate.play(40)
    told(gate, "systemctl kill -s CONT --kill-whom=main pve-ha-lrm", "pve3")
    assert resets_after(gate, "pve3", 120) is None
    assert gate.world.nodes["pve3"].lrm_state == "active"


def test_the_multiplexer_does_not_start_over_its_clients_mark(gate: PlayingGate) -> None:
    """After a kill the mark of the active clients is still there, and a start is refused."""
    gate.play(7)
    assert shell(gate, "test -d /run/watchdog-mux.active", "pve3").status == 0
    told(gate, "systemctl kill -s KILL --kill-whom=main watchdog-mux", "pve3")
    assert shell(gate, "test -d /run/watchdog-mux.active", "pve3").status == 0
    shell(gate, "systemctl start watchdog-mux", "pve3")
    assert shell(gate, "systemctl is-active watchdog-mux", "pve3").out == "failed\n"
    assert "watchdog active - unable to restart watchdog-mux" in told(gate, "journalctl -u watchdog-mux -o cat", "pve3")


def test_a_killed_master_costs_its_node(gate: PlayingGate) -> None:
    """A CRM that is master and dies without good-bye takes its node with it."""
    gate.play(7)
    (master,) = (name for name, node in gate.world.nodes.items() if node.crm_state == "master")
    told(gate, "systemctl kill -s KILL --kill-whom=main pve-ha-crm", master)
    seconds = resets_after(gate, master, 60)
    assert seconds is not None
    assert seconds <= 10.5


def test_a_stopped_master_is_followed_soon(gate: PlayingGate) -> None:
    """A CRM that is stopped gives its lock back: another is master within twenty seconds."""
    gate.play(7)
    (master,) = (name for name, node in gate.world.nodes.items() if node.crm_state == "master")
    told(gate, "systemctl stop pve-ha-crm", master)
    gate.until(lambda: any(node.crm_state == "master" for node in gate.world.nodes.values()), 21)
    told(gate, "systemctl start pve-ha-crm", master)
    gate.play(20)
    assert gate.world.nodes[master].crm_state == "slave"


def test_a_master_that_stands_still_costs_its_node(gate: PlayingGate) -> None:
    """A master is watched too: a minute without feeding and its node resets, unless it goes on in time."""
    gate.play(7)
    (master,) = (name for name, node in gate.world.nodes.items() if node.crm_state == "master")
    told(gate, "systemctl kill -s STOP --kill-whom=main pve-ha-crm", master)
    gate.play(40)
    told(gate, "systemctl kill -s CONT --kill-whom=main pve-ha-crm", master)
    assert resets_after(gate, master, 60) is None
    gate.play(60)
    (master,) = (name for name, node in gate.world.nodes.items() if node.crm_state == "master")
    told(gate, "systemctl kill -s STOP --kill-whom=main pve-ha-crm", master)
    seconds = resets_after(gate, master, 100)
    assert seconds is not None
    assert 60 <= seconds <= 72


@pytest.mark.parametrize(
    ("line", "queued"),
    [
        ("ha-manager crm-command node-maintenance enable pve2", "enable-node-maintenance pve2"),
        ("ha-manager crm-command node-maintenance disable pve2", "disable-node-maintenance pve2"),
        ("ha-manager crm-command disarm-ha freeze", "disarm-ha freeze"),
        ("ha-manager crm-command arm-ha", "arm-ha"),
    ],
)
def test_what_the_master_is_asked_to_do(gate: PlayingGate, line: str, queued: str) -> None:
    """The HA manager's commands are a line for the master, refused without quorum and for nodes that are none."""
    told(gate, line)
    assert gate.world.pmxcfs.store.commands == [queued]
    gate.play(12)
    assert gate.world.pmxcfs.store.commands == []
    assert shell(gate, "ha-manager crm-command node-maintenance enable pve9").status == 255
    gate.world.cut_network("pve3")
    gate.play(10)
    refused = shell(gate, line, "pve3")
    assert (refused.status, refused.err) == (255, "cluster not ready - no quorum?\n")


@pytest.mark.parametrize("line", ["reboot", "systemctl reboot", "shutdown -r now"])
def test_a_reboot_typed_on_the_node(gate: PlayingGate, line: str) -> None:
    """The node goes down in good order, its services frozen, and comes back; nothing is fenced."""
    boot = gate.world.nodes["pve3"].boot_id
    told(gate, line, "pve3")
    gate.until(lambda: gate.world.pmxcfs.store.manager["service_status"]["vm:103"]["state"] == "freeze", 30)
    gate.until(lambda: gate.world.nodes["pve3"].running and gate.world.nodes["pve3"].boot_id != boot, 400)
    gate.until(lambda: gate.world.pmxcfs.store.manager["service_status"]["vm:103"]["state"] == "started", 60)
    assert gate.world.pmxcfs.store.manager["node_status"]["pve3"] == "online"


@pytest.mark.parametrize("line", ["poweroff", "systemctl poweroff", "shutdown -h now"])
def test_a_poweroff_typed_on_the_node(gate: PlayingGate, line: str) -> None:
    """The node stops its guests, and then its chassis is off."""
    told(gate, line, "pve3")
    gate.until(lambda: not gate.world.nodes["pve3"].chassis_on, 120)
    assert not gate.world.guests[103].processes


def test_a_killed_lrm_in_a_shutdown(gate: PlayingGate) -> None:
    """A node on its way down does not wait for an LRM that is dead: it is down, or its watchdog bites."""
    gate.play(7)
    told(gate, "poweroff", "pve3")
    gate.play(6)
    told(gate, "systemctl kill -s KILL pve-ha-lrm", "pve3")
    assert resets_after(gate, "pve3", 10.5) is not None


def test_a_timer_that_is_gone_is_shown(gate: PlayingGate) -> None:
    """systemctl show speaks of it, never elapsing and inactive, and ends well."""
    shown = shell(gate, "systemctl show -p ActiveState -p NextElapseUSecMonotonic x.timer")
    assert (shown.status, shown.out) == (0, "NextElapseUSecMonotonic=infinity\nActiveState=inactive\n")


def test_a_masked_unit_does_not_start(gate: PlayingGate) -> None:
    """Neither by hand nor at boot, until it is unmasked."""
    shell(gate, "systemctl mask --now corosync && sync", "pve2")
    refused = shell(gate, "systemctl start corosync", "pve2")
    assert (refused.status, refused.err) == (1, "Failed to start corosync.service: Unit corosync.service is masked.\n")
    assert shell(gate, "systemctl is-enabled corosync", "pve2").out == "masked\n"
    gate.world.chassis("pve2", "reset")
    gate.play(120)
    assert not gate.world.nodes["pve2"].corosync_up
    shell(gate, "systemctl unmask corosync && systemctl start corosync", "pve2")
    gate.play(10)
    assert gate.world.nodes["pve2"].corosync_up


def test_a_disabled_daemon_does_not_come_back(gate: PlayingGate) -> None:
    """What is disabled runs on and is missing after the next boot."""
    assert shell(gate, "systemctl disable pveproxy", "pve2").status == 0
    assert gate.world.api_reachable("pve2")
    gate.world.chassis("pve2", "reset")
    gate.play(120)
    assert gate.world.nodes["pve2"].running
    assert not gate.world.api_reachable("pve2")
    assert shell(gate, "systemctl is-enabled pveproxy", "pve2").out == "disabled\n"


def test_what_systemctl_says_of_unknown_units(gate: PlayingGate) -> None:
    """Exit status and wording are those of the real tool."""
    done = shell(gate, "systemctl start nonsense")
    assert (done.status, done.err) == (5, "Failed to start nonsense.service: Unit nonsense.service not found.\n")
    done = shell(gate, "systemctl stop nonsense")
    assert (done.status, done.err) == (5, "Failed to stop nonsense.service: Unit nonsense.service not loaded.\n")
    assert shell(gate, "systemctl frobnicate corosync").status == 1
