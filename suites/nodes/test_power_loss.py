"""A node loses power: the cluster fences it and its guests come back elsewhere."""

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


@pytest.mark.destructive(blast="one node and its guests", expected="17 min", breaks=("power-cut",))
@pytest.mark.roles("other", "crm-master")
@pytest.mark.needs(losses=1)
def test_power_loss_of_one_node(victim, residents, nodes, guests, faults, run, objectives):
    """A node that loses power is fenced, and its HA guests answer again elsewhere within their RTO."""
    run.watch(guests, nodes)
    with faults.power_cut(victim):
        run.expect(ha.membership_lost(victim), within="1 min")
        run.expect(ha.fenced(victim), within="5 min")
        run.expect(ha.started(residents, on=nodes - {victim}), within="6 min")
        run.expect(placement.by_the_rules(residents), within="1 min")
        run.expect(placement.within_memory(nodes - {victim}), within="1 min")
        run.expect(ha.answering(residents), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("8 min")
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
