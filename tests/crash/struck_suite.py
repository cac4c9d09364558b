"""Every kind of fault, in force for half a minute: what the crash matrix strikes."""

from contextlib import AbstractContextManager

import pytest

from pytest_pveha.handles.guest import Nodes
from pytest_pveha.scenario.ceph import osds_on

LIMIT = "2 min"
"""The dead-men act a minute later."""


def breaks(kind: str, blast: str = "one node") -> pytest.MarkDecorator:
    """The mark of a test that breaks that, for a moment."""
    return pytest.mark.destructive(blast=blast, expected="5 min", breaks=[kind])


@pytest.fixture
def in_force(guests, run):
    """Holds a fault for half a minute, the guests being watched."""

    def hold(fault: AbstractContextManager[None]) -> None:
        run.watch(guests)
        with fault:
            run.hold("30 s")

    return hold


@breaks("power-cut")
@pytest.mark.roles("other")
def test_power_cut(victim, faults, in_force):
    """A node's power is cut."""
    in_force(faults.power_cut(victim, at_most=LIMIT))


@breaks("partition")
@pytest.mark.roles("other")
def test_partition(victim, faults, in_force):
    """A node is cut off the others."""
    in_force(faults.partition(Nodes([victim]), at_most=LIMIT))


@breaks("service-stopped")
@pytest.mark.roles("other")
def test_service_stopped(victim, faults, in_force):
    """A node's corosync is stopped."""
    in_force(faults.service_stopped(victim, "corosync", at_most=LIMIT))


@breaks("maintenance", blast="the node's guests move")
@pytest.mark.roles("other")
def test_maintenance(victim, faults, in_force):
    """A node is in maintenance."""
    in_force(faults.maintenance(victim, at_most=LIMIT))


@breaks("link-loss", blast="nothing")
def test_link_loss(nodes, faults, in_force):
    """A corosync link fails on all nodes."""
    in_force(faults.link_loss(nodes, 0, at_most=LIMIT))


@breaks("bond-member-loss", blast="nothing")
@pytest.mark.roles("other")
def test_bond_member_loss(victim, bond_members, faults, in_force):
    """A card of a node's bond has no link."""
    in_force(faults.bond_member_loss(victim, bond_members[0], at_most=LIMIT))


@breaks("qdevice-loss", blast="the quorum device's vote")
def test_qdevice_loss(faults, in_force):
    """The quorum device cannot be reached."""
    in_force(faults.qdevice_loss(at_most=LIMIT))


@breaks("kernel-crash")
@pytest.mark.roles("other")
def test_kernel_crash(victim, faults, in_force):
    """A node's kernel has crashed, and nothing there restarts it."""
    in_force(faults.kernel_crash(victim, at_most=LIMIT))


@breaks("daemon-killed")
@pytest.mark.roles("other")
def test_daemon_killed(victim, faults, in_force):
    """A node's watchdog multiplexer is killed."""
    in_force(faults.daemon_killed(victim, "watchdog-mux", at_most=LIMIT))


@breaks("daemons-frozen")
@pytest.mark.roles("other")
def test_daemons_frozen(victim, faults, in_force):
    """A node's LRM stands still."""
    in_force(faults.daemon_frozen(victim, "pve-ha-lrm", at_most=LIMIT))


@breaks("clean-reboot")
@pytest.mark.roles("other")
def test_clean_reboot(victim, faults, in_force):
    """A node reboots in good order."""
    in_force(faults.clean_reboot(victim, at_most=LIMIT))


@breaks("clean-power-off")
@pytest.mark.roles("other")
def test_clean_power_off(victim, faults, in_force):
    """A node powers off in good order."""
    in_force(faults.clean_power_off(victim, at_most=LIMIT))


@breaks("power-cut-by-peer")
@pytest.mark.roles("other")
def test_power_cut_by_peer(victim, faults, in_force):
    """A node's power is cut by another node."""
    in_force(faults.power_cut_by_peer(victim, at_most=LIMIT))


@breaks("guest-killed", blast="one guest")
def test_guest_killed(guest, faults, in_force):
    """A guest's process is killed."""
    in_force(faults.guest_killed(guest, at_most=LIMIT))


@breaks("guest-moved", blast="one guest")
def test_guest_moved(guest, elsewhere, faults, in_force):
    """A guest is migrated."""
    in_force(faults.guest_moved(guest, to=elsewhere, at_most=LIMIT))


@breaks("bridge-down", blast="one guest")
def test_bridge_down(guest, faults, in_force):
    """A guest has no network."""
    in_force(faults.bridge_down(guest, at_most=LIMIT))


@breaks("mains-cut")
@pytest.mark.roles("other")
def test_mains_cut(victim, faults, in_force):
    """A node's outlets are off."""
    in_force(faults.mains_cut(victim, at_most=LIMIT))


@breaks("cord-pulled")
@pytest.mark.roles("other")
def test_cord_pulled(victim, faults, in_force):
    """A node's cords are out."""
    in_force(faults.cord_pulled(victim, at_most=LIMIT))


@breaks("service-restarted", blast="one node's LRM")
@pytest.mark.roles("other")
def test_service_restarted(victim, faults, in_force):
    """A node's LRM is restarted."""
    in_force(faults.service_restarted(victim, "pve-ha-lrm", at_most=LIMIT))


@pytest.fixture
def room(nodes):
    """The nodes of the second room of two."""
    return Nodes(node for node in nodes if node.room == "west")


def breaks_a_room(kind: str) -> pytest.MarkDecorator:
    """The mark of a test that breaks more than one node."""
    return pytest.mark.destructive(blast="one room", expected="5 min", breaks=[kind], site_reset=True)


@breaks_a_room("room-power-cut")
def test_room_power_cut(room, faults, in_force):
    """A room has no power."""
    in_force(faults.room_power_cut(room, at_most=LIMIT))


@breaks_a_room("feed-cut")
def test_feed_cut(faults, in_force):
    """A power feed carries nothing."""
    in_force(faults.feed_cut("feed-west", at_most=LIMIT))


@breaks_a_room("room-cut")
def test_room_cut(room, faults, in_force):
    """A room is cut off the other one."""
    in_force(faults.room_cut(room, at_most=LIMIT))


@breaks_a_room("switch-loss")
def test_switch_loss(faults, in_force):
    """A switch carries nothing."""
    in_force(faults.switch_loss("sw-ring", at_most=LIMIT))


@pytest.mark.destructive(blast="a switch", expected="5 min", breaks=["switch-loss", "switch-pulled"], site_reset=True)
def test_switch_pulled(faults, in_force):
    """A switch is off the network."""
    in_force(faults.switch_pulled("sw-ring", at_most=LIMIT))


@pytest.fixture
def osd(victim, run):
    """An OSD of the victim."""
    return osds_on(run.observer, victim)[0]


@breaks("osd-killed", blast="one OSD")
@pytest.mark.roles("other")
def test_osd_killed(osd, faults, in_force):
    """An OSD is killed."""
    in_force(faults.osd_killed(osd, at_most=LIMIT))


@breaks("osd-lost", blast="one OSD")
@pytest.mark.roles("other")
def test_osd_lost(osd, faults, in_force):
    """An OSD stays away."""
    in_force(faults.osd_lost(osd, at_most=LIMIT))


@breaks("ceph-network-cut", blast="one node's OSDs")
@pytest.mark.roles("other")
def test_ceph_network_cut(victim, faults, in_force):
    """A node is cut off Ceph's cluster network."""
    in_force(faults.ceph_network_cut(victim, "cluster", at_most=LIMIT))


@breaks("noout", blast="nothing")
@pytest.mark.roles("other")
def test_noout(victim, faults, in_force):
    """Ceph marks nothing out."""
    in_force(faults.noout(victim, at_most=LIMIT))


@breaks("guest-restored", blast="nothing")
def test_guest_restored(guest, faults, in_force):
    """A guest's copy is being made."""
    in_force(faults.guest_restored(guest, at_most=LIMIT))


@breaks("guest-restored", blast="nothing")
def test_live_guest_restored(guest, faults, in_force):
    """A guest's copy runs, and is still being made."""
    in_force(faults.guest_restored(guest, live=True, at_most=LIMIT))


@breaks("storage-cut", blast="the guests of a storage")
def test_storage_cut(served, faults, in_force):
    """A storage's server is silent."""
    in_force(faults.storage_cut(served))
