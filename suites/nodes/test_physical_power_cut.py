"""A node loses the mains: it is dead with its BMC, and its guests come back elsewhere."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    collateral_resets,
    double_runs,
    downtime,
    lost_writes,
    not_before_death,
    recovery_time,
    violations,
    write_slowdown,
    write_stall,
)
from pytest_pveha.observe import audits, ha, placement


@pytest.mark.destructive(blast="one node and its guests", expected="8 min", breaks=("mains-cut", "cord-pulled"))
@pytest.mark.roles("other", "crm-master")
@pytest.mark.needs(losses=1, mains=True)
def test_physical_power_cut(victim, residents, nodes, guests, faults, run, objectives):
    """A node that loses the mains dies with its BMC, and its HA guests answer again elsewhere within their RTO."""
    run.watch(guests, nodes)
    with faults.mains_cut(victim):
        run.expect(ha.fenced(victim), within="5 min")
        run.expect(ha.started(residents, on=nodes - {victim}), within="6 min")
        run.expect(placement.by_the_rules(residents), within="1 min")
        run.expect(placement.within_memory(nodes - {victim}), within="1 min")
        run.expect(ha.answering(residents), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(recovery_time(residents), at_most=objectives.rto)
    run.claim(downtime(residents), at_most=objectives.rto)
    run.claim(not_before_death(residents, victim), at_least=0)
    run.claim(lost_writes(residents), none=True)
    run.claim(double_runs(residents), none=True)
    run.claim(write_stall(guests), at_most=objectives.write_stall)
    run.claim(write_slowdown(residents), at_most=objectives.slowdown)
    run.claim(answer_slowdown(residents), at_most=objectives.slowdown)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
