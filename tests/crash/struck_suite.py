"""Every kind of fault, in force for half a minute: what the crash matrix strikes."""

import pytest

from pytest_pveha.handles.guest import Nodes

LIMIT = "2 min"
"""The dead-men act a minute later."""


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["power-cut"])
@pytest.mark.roles("other")
def test_power_cut(victim, guests, faults, run):
    """A node's power is cut."""
    run.watch(guests)
    with faults.power_cut(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["partition"])
@pytest.mark.roles("other")
def test_partition(victim, guests, faults, run):
    """A node is cut off the others."""
    run.watch(guests)
    with faults.partition(Nodes([victim]), at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["service-stopped"])
@pytest.mark.roles("other")
def test_service_stopped(victim, guests, faults, run):
    """A node's corosync is stopped."""
    run.watch(guests)
    with faults.service_stopped(victim, "corosync", at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="the node's guests move", expected="5 min", breaks=["maintenance"])
@pytest.mark.roles("other")
def test_maintenance(victim, guests, faults, run):
    """A node is in maintenance."""
    run.watch(guests)
    with faults.maintenance(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="nothing", expected="5 min", breaks=["link-loss"])
def test_link_loss(nodes, guests, faults, run):
    """A corosync link fails on all nodes."""
    run.watch(guests)
    with faults.link_loss(nodes, 0, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="the quorum device's vote", expected="5 min", breaks=["qdevice-loss"])
def test_qdevice_loss(guests, faults, run):
    """The quorum device cannot be reached."""
    run.watch(guests)
    with faults.qdevice_loss(at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["kernel-crash"])
@pytest.mark.roles("other")
def test_kernel_crash(victim, guests, faults, run):
    """A node's kernel has crashed, and nothing there restarts it."""
    run.watch(guests)
    with faults.kernel_crash(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["daemon-killed"])
@pytest.mark.roles("other")
def test_daemon_killed(victim, guests, faults, run):
    """A node's watchdog multiplexer is killed."""
    run.watch(guests)
    with faults.daemon_killed(victim, "watchdog-mux", at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["daemons-frozen"])
@pytest.mark.roles("other")
def test_daemons_frozen(victim, guests, faults, run):
    """A node's LRM stands still."""
    run.watch(guests)
    with faults.daemon_frozen(victim, "pve-ha-lrm", at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["clean-reboot"])
@pytest.mark.roles("other")
def test_clean_reboot(victim, guests, faults, run):
    """A node reboots in good order."""
    run.watch(guests)
    with faults.clean_reboot(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["clean-power-off"])
@pytest.mark.roles("other")
def test_clean_power_off(victim, guests, faults, run):
    """A node powers off in good order."""
    run.watch(guests)
    with faults.clean_power_off(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["power-cut-by-peer"])
@pytest.mark.roles("other")
def test_power_cut_by_peer(victim, guests, faults, run):
    """A node's power is cut by another node."""
    run.watch(guests)
    with faults.power_cut_by_peer(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one guest", expected="5 min", breaks=["guest-killed"])
def test_guest_killed(guest, guests, faults, run):
    """A guest's process is killed."""
    run.watch(guests)
    with faults.guest_killed(guest, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one guest", expected="5 min", breaks=["guest-moved"])
def test_guest_moved(guest, elsewhere, guests, faults, run):
    """A guest is migrated."""
    run.watch(guests)
    with faults.guest_moved(guest, to=elsewhere, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one guest", expected="5 min", breaks=["bridge-down"])
def test_bridge_down(guest, guests, faults, run):
    """A guest has no network."""
    run.watch(guests)
    with faults.bridge_down(guest, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["mains-cut"])
@pytest.mark.roles("other")
def test_mains_cut(victim, guests, faults, run):
    """A node's outlets are off."""
    run.watch(guests)
    with faults.mains_cut(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node", expected="5 min", breaks=["cord-pulled"])
@pytest.mark.roles("other")
def test_cord_pulled(victim, guests, faults, run):
    """A node's cords are out."""
    run.watch(guests)
    with faults.cord_pulled(victim, at_most=LIMIT):
        run.hold("30 s")


@pytest.mark.destructive(blast="one node's LRM", expected="5 min", breaks=["service-restarted"])
@pytest.mark.roles("other")
def test_service_restarted(victim, guests, faults, run):
    """A node's LRM is restarted."""
    run.watch(guests)
    with faults.service_restarted(victim, "pve-ha-lrm", at_most=LIMIT):
        run.hold("30 s")
