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


@pytest.mark.destructive(blast="one node's LRM", expected="5 min", breaks=["service-restarted"])
@pytest.mark.roles("other")
def test_service_restarted(victim, guests, faults, run):
    """A node's LRM is restarted."""
    run.watch(guests)
    with faults.service_restarted(victim, "pve-ha-lrm", at_most=LIMIT):
        run.hold("30 s")
