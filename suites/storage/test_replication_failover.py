"""A node with replicated guests loses power: they start from their replicas, and lose no more than was promised."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    collateral_resets,
    data_loss,
    double_runs,
    lost_span,
    not_before_death,
    older_than_told,
    recovery_time,
    violations,
)
from pytest_pveha.observe import audits, ha, replication


@pytest.mark.destructive(blast="one node and its guests", expected="15 min", breaks=("power-cut",))
@pytest.mark.needs(replication=True, losses=1)
@pytest.mark.roles("other")
def test_failover_to_a_replica(victim, replicas, nodes, guests, faults, run, objectives):
    """Replicated guests of a node that loses power start where a replica is, having lost no more than their RPO."""
    run.watch(guests, nodes)
    run.expect(replication.synced(replicas), within="40 min")
    with faults.power_cut(victim):
        run.expect(ha.membership_lost(victim), within="1 min")
        run.expect(ha.fenced(victim), within="5 min")
        run.expect(replication.on_replicas(replicas, nodes), within="6 min")
        run.expect(replication.started_from(replicas), within="1 min")
        run.expect(ha.answering(replicas), within="20 min")
        run.expect(replication.turned_round(replicas), within="3 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(replication.synced(replicas), within="40 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(lost_span(replicas), at_most=objectives.rpo)
    run.claim(older_than_told(replicas), at_most=0)
    run.claim(data_loss(replicas), at_most=objectives.rpo)
    run.claim(double_runs(replicas), none=True)
    run.claim(recovery_time(replicas), at_most=objectives.rto)
    run.claim(answer_slowdown(replicas), at_most=objectives.slowdown)
    run.claim(not_before_death(replicas, victim), at_least=0)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
