"""A node is off for work, and another one is lost: what Ceph's maps foretell is what happens."""

import pytest

from pytest_pveha.judge import collateral_resets, full_ratios, unreadable_data, unserved, violations, write_stall
from pytest_pveha.observe import audits, ceph, ha

PEERING = 30
"""Seconds in which placement groups find themselves after OSDs were lost, or came back."""


@pytest.mark.destructive(
    blast="two nodes and their guests", expected="90 min", breaks=("noout", "clean-power-off", "power-cut")
)
@pytest.mark.roles("other")
@pytest.mark.needs(ceph=True, losses=2)
def test_loss_while_a_node_is_off_for_work(victim, resting, both_lost, nodes, guests, faults, run, objectives):
    """With one node off and noout set, the loss of another leaves data served, as its maps foretell."""
    run.watch(guests, nodes)
    run.watch_ceph()
    with faults.noout(resting), faults.clean_power_off(resting):
        run.expect(ha.membership_lost(resting), within="15 min")
        run.expect(ceph.degraded(), within="3 min")
        with faults.power_cut(victim):
            run.expect(ha.membership_lost(victim), within="1 min")
            run.expect(ceph.mons_in_quorum(both_lost.mons), within="2 min")
            run.expect(ceph.as_predicted(both_lost.told), within="3 min")
            run.expect(ha.fenced(victim), within="5 min")
            run.expect(ha.answering(guests), within="20 min")
        run.expect(ha.online(victim), within="15 min")
    run.expect(ha.online(resting), within="15 min")
    run.expect(ceph.clean(), within="60 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(ha.answering(guests), within="5 min")

    run.claim(write_stall(guests), at_most=objectives.write_stall)
    run.claim(unserved(), at_most=PEERING)
    run.claim(unreadable_data(), none=True)
    run.claim(full_ratios(), none=True)
    run.claim(collateral_resets(victim, resting), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
