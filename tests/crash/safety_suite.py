"""Runs in which something that guards the site must act: what test_safety.py looks at."""

import pytest

from pytest_pveha.handles.guest import Nodes


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["partition"])
@pytest.mark.roles("other")
def test_held_too_long(victim, guests, faults, run):
    """A cut that the nodes undo by themselves before the test does."""
    run.watch(guests)
    with faults.partition(Nodes([victim]), at_most="1 min"):
        # held up past every limit, as a controller that was suspended would be: no look at the site, no sentinel
        run.site.clock.sleep(180)


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["partition"])
@pytest.mark.roles("other")
def test_longer_than_declared(victim, guests, faults, run):
    """A cut that lasts longer than it may."""
    run.watch(guests)
    with faults.partition(Nodes([victim]), at_most="1 min"):
        run.hold("5 min")


@pytest.mark.destructive(blast="minority of two", expected="10 min", breaks=["partition"])
@pytest.mark.needs(nodes=5)
@pytest.mark.roles("other")
def test_two_cut_off(victim, nodes, guests, faults, run):
    """A cut that takes two nodes away is tried for a moment first."""
    second = next(
        node for node in nodes - {victim} if node.name != run.site.cluster.manager(run.site.clock.deadline(10)).master
    )
    run.watch(guests)
    with faults.partition(Nodes([victim, second]), at_most="5 min"):
        run.hold("10 s")


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["power-cut"])
@pytest.mark.roles("other")
def test_power_cut(victim, guests, faults, run):
    """A node's power is cut for a minute."""
    run.watch(guests)
    with faults.power_cut(victim):
        run.hold("1 min")


@pytest.mark.destructive(blast="one node", expected="10 min", breaks=["mains-cut"])
@pytest.mark.needs(mains=True)
@pytest.mark.roles("other")
def test_mains_cut(victim, guests, faults, run):
    """A node's outlets are off for a minute."""
    run.watch(guests)
    with faults.mains_cut(victim):
        run.hold("1 min")


@pytest.mark.destructive(blast="nothing", expected="1 min", breaks=["service-stopped"])
@pytest.mark.roles("other")
def test_never_the_watchdog(victim, faults, run):
    """watchdog-mux is never stopped."""
    with faults.service_stopped(victim, "watchdog-mux"):
        run.hold("10 s")


@pytest.mark.destructive(blast="one node", expected="30 min", breaks=["power-cut"])
@pytest.mark.roles("other")
def test_dark_for_long(victim, guests, faults, run):
    """A node's power is cut for as long as somebody lets it."""
    run.watch(guests)
    with faults.power_cut(victim):
        run.hold("40 min")


@pytest.mark.destructive(blast="one node", expected="20 min", breaks=["power-cut"])
@pytest.mark.roles("other")
def test_dead_men_out_of_reach_act_too_late(victim, nodes, guests, faults, run):
    """The nodes that would undo a power cut cannot be asked when it is healed, and act two minutes later."""
    run.watch(guests)
    with faults.power_cut(victim, at_most="1 min"):
        for other in nodes - {victim}:
            _deaf(run, other, 400)
    run.hold("10 min")


@pytest.mark.destructive(blast="one node", expected="20 min", breaks=["power-cut"])
@pytest.mark.roles("other")
def test_dead_men_out_of_reach_act_in_time(victim, nodes, guests, faults, run):
    """The same, and the run is held up: they act while the power is still to be off."""
    run.watch(guests)
    with faults.power_cut(victim, at_most="1 min"):
        for other in nodes - {victim}:
            _deaf(run, other, 400)
        run.site.clock.sleep(180)
    run.hold("10 min")


@pytest.mark.destructive(blast="one node", expected="20 min", breaks=["power-cut"])
@pytest.mark.roles("other")
def test_dead_men_out_of_reach_are_found_in_time(victim, nodes, guests, faults, run):
    """Those who cannot be asked when it is healed are back before they would act, and never do."""
    run.watch(guests)
    with faults.power_cut(victim, at_most="5 min"):
        for other in nodes - {victim}:
            _deaf(run, other, 60)
    run.hold("10 min")


def _deaf(run, node, seconds):
    """Nobody reaches the node's shell for so long; all else there goes on."""
    deadline = run.site.clock.deadline(20)
    node.disk.write("/var/lib/listen-again", "systemctl start sshd\n", deadline)
    node.units.arm("listen-again", seconds, "/var/lib/listen-again", deadline)
    node.units.stop("sshd", deadline)
    node.ssh.close()  # a session that is open outlives the daemon's end
