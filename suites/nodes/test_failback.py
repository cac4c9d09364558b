"""A node that failed comes back: its guests go where HA's rules want them, once, or stay where they are."""

import pytest

from pytest_pveha.judge import collateral_resets, misplaced, moves, parted, recovery_time, violations
from pytest_pveha.observe import audits, ha


@pytest.mark.destructive(blast="one node and its guests", expected="11 min", breaks=("power-cut",))
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1)
def test_failback(victim, residents, homes, nodes, guests, faults, run, objectives):
    """When a failed node is back, each HA guest goes where its rule wants it, once, or stays where no rule says so."""
    run.watch(guests, nodes)
    with faults.power_cut(victim):
        run.expect(ha.fenced(victim), within="6 min")
        run.expect(ha.started(residents, on=nodes - {victim}), within="6 min")
        run.expect(ha.answering(residents), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(homes.reached(residents), within="10 min")
    run.hold("4 min")
    run.expect(homes.reached(residents), within="30 s")
    run.expect(ha.answering(guests), within="10 min")

    run.claim(misplaced(residents, homes.of), none=True)
    run.claim(parted(homes), none=True)
    run.claim(moves(guests), at_most=1)
    run.claim(recovery_time(residents), at_most=objectives.rto)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
