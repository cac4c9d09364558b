"""The power-loss scenario without what comes after the recovery, and with both measures of it; run by test_truth.py."""

import pytest

from pytest_pveha.judge import downtime, recovery_time
from pytest_pveha.observe import ha


@pytest.mark.destructive(blast="one node and its guests", expected="8 min", breaks=("power-cut",))
@pytest.mark.roles("other", "crm-master")
def test_power_loss_in_short(victim, residents, nodes, guests, faults, run, objectives):
    """The HA guests of a node that loses power answer again elsewhere within their RTO."""
    run.watch(guests, nodes)
    with faults.power_cut(victim):
        run.expect(ha.started(residents, on=nodes - {victim}), within="8 min")
        run.expect(ha.answering(residents), within="10 min")

    run.claim(recovery_time(residents), at_most=objectives.rto)
    run.claim(downtime(residents), at_most=objectives.rto)
