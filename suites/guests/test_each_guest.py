"""Each HA guest by itself: killed, moved there and back, relocated, without its network, in its turn after others."""

import pytest

from pytest_pveha.judge import collateral_resets, downtime, recovery_in_turn, recovery_time, violations
from pytest_pveha.observe import audits, ha
from pytest_pveha.observe.guests import answers, runs_on, started_again, untouched


@pytest.mark.destructive(blast="one guest", expected="50 s", breaks=("guest-killed",))
def test_killed(guest, home, faults, run, objectives):
    """A guest whose process is killed is started again on its node, and answers within its RTO."""
    run.watch(guest)
    with faults.guest_killed(guest):
        run.expect(started_again(guest, on=home), within="3 min")
        run.expect(answers(guest), within="20 min")

    run.claim(recovery_time([guest]), at_most=objectives.rto)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one guest", expected="1 min 40 s", breaks=("guest-moved",))
@pytest.mark.needs(nodes=2)
def test_migrated_there_and_back(guest, home, elsewhere, faults, run, objectives):
    """A guest that is migrated arrives, comes home, and is not away for longer than its RTO in all."""
    run.watch(guest)
    with faults.guest_moved(guest, to=elsewhere):
        run.expect(runs_on(guest, elsewhere), within="20 min")
        run.expect(answers(guest), within="20 min")
    run.expect(runs_on(guest, home), within="20 min")
    run.expect(answers(guest), within="20 min")

    run.claim(downtime([guest]), at_most=objectives.rto)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one guest", expected="2 min 10 s", breaks=("guest-moved",))
@pytest.mark.needs(nodes=2)
def test_relocated(guest, home, elsewhere, faults, run, objectives):
    """A guest that is relocated stops here, starts there within its RTO, and comes home."""
    run.watch(guest)
    with faults.guest_moved(guest, to=elsewhere, alive=False):
        run.expect(runs_on(guest, elsewhere), within="20 min")
        run.expect(answers(guest), within="20 min")
    run.expect(runs_on(guest, home), within="20 min")
    run.expect(answers(guest), within="20 min")

    run.claim(downtime([guest]), at_most=objectives.rto)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one guest's network", expected="2 min 20 s", breaks=("bridge-down",))
def test_without_its_network(guest, home, faults, run):
    """A guest that lost its network is left alone by HA, away until somebody acts: HA watches processes only."""
    run.watch(guest)
    with faults.bridge_down(guest):
        run.hold("2 min")
        run.expect(untouched(guest, on=home), within="30 s")
    run.expect(answers(guest), within="2 min")

    run.claim(downtime([guest]), at_least=115)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="the node with the most guests", expected="20 min", breaks=("power-cut",))
@pytest.mark.roles("fullest")
@pytest.mark.needs(losses=1)
def test_in_its_turn_after_others(victim, residents, max_workers, nodes, guests, faults, run, objectives):
    """When a full node is lost, its HA guests start some at a time, and even the last one answers within its RTO."""
    run.watch(guests, nodes)
    with faults.power_cut(victim):
        run.expect(ha.fenced(victim), within="6 min")
        run.expect(ha.started(residents, on=nodes - {victim}), within="15 min")
        run.expect(ha.answering(residents), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")

    run.claim(recovery_in_turn(residents, victim), at_most=objectives.rto)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
