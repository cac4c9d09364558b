"""The watchdog of a node with HA guests resets it when what feeds it dies or stands still."""

import pytest

from pytest_pveha.judge import collateral_resets, half_alive, reset_after, reset_after_last_feed, violations
from pytest_pveha.observe import audits, ha, life

KILLED = 10 + 2
"""Seconds: the hardware's timeout as watchdog-mux sets it, and two for the act (pve-ha-manager watchdog-mux.c)."""
STARVED = 60 + KILLED
"""Seconds: a minute more, for which the multiplexer believes in a client that says nothing."""


@pytest.mark.destructive(blast="one node and its guests", expected="6 min", breaks=("daemon-killed",))
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1)
@pytest.mark.parametrize("daemon", ["watchdog-mux", "pve-ha-lrm"])
def test_killed_daemon_resets_its_node(victim, daemon, residents, nodes, guests, faults, run):
    """A node whose watchdog multiplexer or LRM is killed is reset by its watchdog within 12 seconds."""
    run.watch(guests)
    with faults.daemon_killed(victim, daemon):
        run.expect(life.silent(victim), within="3 min")
        run.expect(life.reset(victim), within="15 min")
        run.expect(life.recovered(residents, victim), within="10 min")
        run.expect(ha.answering(residents), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(reset_after(victim), at_most=KILLED)
    run.claim(half_alive(residents, victim), none=True)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one node and its guests", expected="7 min", breaks=("daemons-frozen",))
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1)
def test_starved_lrm_resets_its_node(victim, residents, nodes, guests, faults, run):
    """A node whose LRM stands still is reset by its watchdog within 72 seconds of the last time it was fed."""
    run.watch(guests)
    with faults.daemon_frozen(victim, "pve-ha-lrm"):
        run.expect(life.silent(victim), within="4 min")
        run.expect(life.reset(victim), within="15 min")
        run.expect(life.recovered(residents, victim), within="10 min")
        run.expect(ha.answering(residents), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(reset_after_last_feed(victim), at_most=STARVED)
    run.claim(half_alive(residents, victim), none=True)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
