"""Faults inside of faults: what test_nested.py strikes. The inner one, as the second of its test, is called KIND-2."""

import pytest

from pytest_pveha.handles.guest import Nodes

LIMIT = "2 min"
OUTER = "6 min"
"""Longer than the inner one's: that may be undone by the nodes while the outer one is in force still."""


def _second(run, nodes, victim):
    """Another node than the victim, and not the CRM master."""
    master = run.site.cluster.manager(run.site.clock.deadline(10)).master
    return next(node for node in nodes - {victim} if node.name != master)


@pytest.mark.destructive(blast="two nodes", expected="10 min", breaks=["partition", "power-cut"])
@pytest.mark.needs(nodes=5)
@pytest.mark.roles("other")
def test_power_cut_in_partition(victim, nodes, guests, faults, run):
    """While one node is cut off another one loses power."""
    run.watch(guests)
    with faults.partition(Nodes([victim]), at_most=OUTER):
        with faults.power_cut(_second(run, nodes, victim), at_most=LIMIT):
            run.hold("30 s")
        run.hold("2 min")


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["partition", "power-cut"])
@pytest.mark.roles("other")
def test_power_cut_of_whom_is_cut_off(victim, guests, faults, run):
    """A node that is cut off loses power, too."""
    run.watch(guests)
    with faults.partition(Nodes([victim]), at_most=OUTER):
        with faults.power_cut(victim, at_most=LIMIT):
            run.hold("30 s")
        run.hold("2 min")


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["maintenance", "power-cut"])
@pytest.mark.roles("other")
def test_power_cut_in_maintenance(victim, nodes, guests, faults, run):
    """While one node is in maintenance another one loses power."""
    run.watch(guests)
    with faults.maintenance(_second(run, nodes, victim), at_most=OUTER):
        run.hold("1 min")
        with faults.power_cut(victim, at_most=LIMIT):
            run.hold("30 s")
        run.hold("2 min")


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["maintenance", "clean-reboot"])
@pytest.mark.roles("other")
def test_clean_reboot_in_maintenance(victim, guests, faults, run):
    """A node in maintenance is rebooted, as an update does it."""
    run.watch(guests)
    with faults.maintenance(victim, at_most=OUTER):
        run.hold("1 min")
        with faults.clean_reboot(victim, at_most=LIMIT):
            run.hold("30 s")
        run.hold("30 s")


@pytest.mark.destructive(blast="two nodes", expected="10 min", breaks=["power-cut"])
@pytest.mark.needs(nodes=5)
@pytest.mark.roles("other")
def test_power_cut_in_power_cut(victim, nodes, guests, faults, run):
    """While one node has no power another one loses it."""
    run.watch(guests)
    with faults.power_cut(victim, at_most=OUTER):
        with faults.power_cut(_second(run, nodes, victim), at_most=LIMIT):
            run.hold("30 s")
        run.hold("2 min")


@pytest.mark.destructive(blast="two nodes", expected="15 min", breaks=["mains-cut", "cord-pulled"])
@pytest.mark.needs(nodes=5)
@pytest.mark.roles("other")
def test_cord_pulled_in_mains_cut(victim, nodes, guests, faults, run):
    """While one node has no mains, and its guests are elsewhere, a person pulls the cord of another one."""
    run.watch(guests)
    with faults.mains_cut(victim, at_most="30 min"):
        run.hold("5 min")
        with faults.cord_pulled(_second(run, nodes, victim), at_most=LIMIT):
            run.hold("30 s")
        run.hold("2 min")


@pytest.mark.destructive(blast="two nodes", expected="10 min", breaks=["power-cut", "partition"])
@pytest.mark.needs(nodes=5)
@pytest.mark.roles("other")
def test_partition_in_power_cut(victim, nodes, guests, faults, run):
    """While one node has no power another one is cut off those that are left."""
    run.watch(guests)
    with faults.power_cut(victim, at_most=OUTER):
        with faults.partition(Nodes([_second(run, nodes, victim)]), at_most=LIMIT):
            run.hold("30 s")
        run.hold("2 min")


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["power-cut", "link-loss"])
@pytest.mark.roles("other")
def test_link_loss_in_power_cut(victim, nodes, guests, faults, run):
    """While one node has no power a corosync link of the others fails."""
    run.watch(guests)
    with faults.power_cut(victim, at_most=OUTER):
        with faults.link_loss(nodes, 0, at_most=LIMIT):
            run.hold("30 s")
        run.hold("2 min")


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["power-cut", "switch-loss"], site_reset=True)
@pytest.mark.roles("other")
def test_switch_loss_in_power_cut(victim, faults, run):
    """While one node has no power a switch fails: refused."""
    with faults.power_cut(victim, at_most=OUTER), faults.switch_loss("sw-ring", at_most=LIMIT):
        run.hold("30 s")
