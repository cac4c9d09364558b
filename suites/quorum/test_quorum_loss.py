"""More nodes are cut off than quorum allows: nobody may write, and whoever guards guests gives up in time."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    both_quorate,
    collateral_resets,
    double_runs,
    downtime,
    fences,
    last_reset,
    lost_writes,
    overlaps,
    quorum_losses,
    recovery_time,
    starved_for,
    time_to_quorum,
    violations,
    write_slowdown,
)
from pytest_pveha.observe import audits, ha, quorum

GIVEN_UP = 60 + 10 + 2
"""Seconds after its last feed: the multiplexer's patience, the hardware's, and two for the act (watchdog-mux.c)."""


@pytest.mark.destructive(blast="quorum", expected="3 min", breaks=("partition",))
@pytest.mark.needs(nodes=3)
def test_short_loss_of_quorum_resets_nobody(too_many, blip_of_quorum, nodes, guests, ring, faults, run):
    """When all nodes lose quorum for some seconds, nobody is reset or fenced, and no guest notices it."""
    run.watch(guests, nodes)
    run.witness(nodes)
    faults.blip_of_quorum(too_many, lasting=blip_of_quorum)
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("2 min")

    run.claim(quorum_losses(nodes), at_least=len(nodes))
    run.claim(both_quorate(too_many, nodes - too_many), at_most=ring.settles)
    run.claim(downtime(guests), at_most=5)
    run.claim(fences(), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="all nodes and guests", expected="8 min", breaks=("partition",), site_reset=True)
@pytest.mark.needs(nodes=3)
def test_long_loss_of_quorum_resets_the_site(too_many, guarding, nodes, guests, ring, faults, run, objectives):
    """Without quorum for good nobody writes, each node that guards guests resets itself in time, and all come back."""
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.site_without_quorum(too_many):
        run.expect(quorum.lost(nodes), within="30 s")
        run.expect(quorum.refuses_writes(nodes), within="10 s")
        run.hold_broken("40 s")
        run.expect(quorum.refuses_writes(nodes), within="5 s")
        run.expect(quorum.reset(guarding), within="10 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.started(guests, on=nodes), within="10 min")
    run.expect(ha.answering(guests), within="20 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("2 min")

    run.claim(starved_for(guarding), at_least=60)
    run.claim(last_reset(guarding), at_most=ring.token + ring.consensus + GIVEN_UP)
    run.claim(time_to_quorum(nodes), at_most=900)
    run.claim(recovery_time(guests), at_most=1200)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(lost_writes(guests), none=True)
    run.claim(double_runs(guests), none=True)
    run.claim(write_slowdown(guests), at_most=objectives.slowdown)
    run.claim(answer_slowdown(guests), at_most=objectives.slowdown)
    run.claim(collateral_resets(*guarding), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
