"""A node's kernel crashes: its guests run again, and it comes back if anything on it is set to restart it."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    collateral_resets,
    double_runs,
    half_alive,
    lost_writes,
    recovery_time,
    violations,
    write_slowdown,
    write_stall,
)
from pytest_pveha.observe import audits, ha, life


@pytest.mark.destructive(blast="one node and its guests", expected="8 min", breaks=("kernel-crash",))
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1)
def test_kernel_crash_of_one_node(victim, residents, nodes, guests, faults, run, objectives):
    """The HA guests of a node whose kernel crashes answer again within their RTO, and it restarts as it is set to."""
    run.watch(guests)
    with faults.kernel_crash(victim):
        run.expect(life.recovered(residents, victim), within="8 min")
        run.expect(ha.answering(residents), within="20 min")
        run.expect(life.restarted_as_set(victim), within="15 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(recovery_time(residents), at_most=objectives.rto)
    run.claim(half_alive(residents, victim), none=True)
    run.claim(lost_writes(residents), none=True)
    run.claim(double_runs(residents), none=True)
    run.claim(write_stall(guests), at_most=objectives.write_stall)
    run.claim(write_slowdown(residents), at_most=objectives.slowdown)
    run.claim(answer_slowdown(residents), at_most=objectives.slowdown)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
