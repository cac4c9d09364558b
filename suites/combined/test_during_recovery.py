"""While the guests of a lost node are being recovered something else goes wrong: it is survived as well."""

import pytest

from pytest_pveha.judge import answer_slowdown, collateral_resets, downtime, violations
from pytest_pveha.observe import audits, ha
from pytest_pveha.observe.guests import started_again


@pytest.mark.destructive(
    blast="one node and its guests, and one more guest",
    expected="9 min",
    breaks=("power-cut", "guest-killed"),
    combined=True,
)
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1)
def test_a_guest_dies_meanwhile(victim, residents, unhurt, at_home, nodes, guests, faults, run, objectives):
    """A guest that dies while a lost node's guests are recovered is started again too, and all answer in time."""
    run.watch(guests, nodes)
    with faults.power_cut(victim):
        run.expect(ha.membership_lost(victim), within="1 min")
        with faults.guest_killed(unhurt):
            run.expect(started_again(unhurt, on=at_home), within="3 min")
        run.expect(ha.started(residents, on=nodes - {victim}), within="6 min")
        run.expect(ha.answering(guests), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")

    run.claim(downtime(guests), at_most=objectives.rto)
    run.claim(answer_slowdown(guests), at_most=objectives.slowdown)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="two nodes and their guests", expected="14 min", breaks=("power-cut",), combined=True)
@pytest.mark.roles("other")
@pytest.mark.needs(losses=2)
def test_a_second_node_is_lost_meanwhile(victim, second, residents, nodes, guests, faults, run, objectives):
    """A node that is lost while another one's guests are recovered is survived too: all answer within their RTO."""
    run.watch(guests, nodes)
    with faults.power_cut(victim):
        run.expect(ha.membership_lost(victim), within="1 min")
        with faults.power_cut(second):
            run.expect(ha.membership_lost(second), within="1 min")
            run.expect(ha.started(guests, on=nodes - {victim, second}), within="10 min")
            run.expect(ha.answering(guests), within="20 min")
        run.expect(ha.online(second), within="15 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")

    run.claim(downtime(guests), at_most=objectives.rto)
    run.claim(answer_slowdown(guests), at_most=objectives.slowdown)
    run.claim(collateral_resets(victim, second), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
