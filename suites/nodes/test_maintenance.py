"""A node is taken out of service and given back, as for work on it."""

import pytest

from pytest_pveha.judge import (
    collateral_resets,
    downtime,
    moves,
    parted,
    time_away,
    time_home,
    time_to_leave,
    violations,
)
from pytest_pveha.observe import audits, ha, upkeep
from pytest_pveha.observe import nodes as node

EMPTIED = 600
"""Seconds in which a node is to be empty, and full again."""
LEFT = 60
"""Seconds in which HA is to call a node online again (measured: 14)."""


@pytest.mark.destructive(blast="one node's guests move", expected="5 min", breaks=("maintenance",))
@pytest.mark.roles("other", "crm-master")
@pytest.mark.needs(losses=1)
def test_maintenance_on_and_off(victim, residents, homes, nodes, guests, faults, run, objectives):
    """A node in maintenance is emptied without a fence, goes on voting, and gets back the guests HA brings back."""
    run.watch(guests, nodes)
    with faults.maintenance(victim):
        run.expect(ha.started(residents, on=nodes - {victim}), within="10 min")
        run.expect(node.empty(victim), within="2 min")
        run.expect(node.votes(victim), within="30 s")
        run.hold("1 min")
    run.expect(ha.online(victim), within="2 min")
    run.expect(homes.returned(residents, victim), within="10 min")
    run.expect(node.not_fenced(victim), within="1 min")
    run.expect(ha.answering(guests), within="10 min")
    run.hold("2 min")

    run.claim(time_away(residents, victim), at_most=EMPTIED)
    run.claim(time_to_leave(victim), at_most=LEFT)
    run.claim(time_home(homes.returning(residents, victim), victim), at_most=EMPTIED)
    run.claim(parted(homes), none=True)
    run.claim(downtime(residents), at_most=objectives.live)
    run.claim(moves(guests), at_most=1)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(
    blast="two nodes and their guests", expected="13 min", breaks=("maintenance", "clean-power-off", "power-cut")
)
@pytest.mark.roles("other")
@pytest.mark.needs(nodes=3, losses=2)
def test_loss_while_another_node_is_off(victim, resting, residents, nodes, guests, faults, run, objectives):
    """While a node is off for work on it another one may lose power: all HA guests answer again within their RTO."""
    away = nodes.only(victim, resting)
    run.watch(guests, nodes)
    with faults.maintenance(resting):
        run.expect(upkeep.emptied(resting), within="20 min")
        with faults.clean_power_off(resting):
            run.expect(ha.membership_lost(resting), within="10 min")
            with faults.power_cut(victim):
                run.expect(ha.fenced(victim), within="6 min")
                run.expect(ha.started(guests, on=nodes - away), within="6 min")
                run.expect(ha.answering(guests), within="20 min")
            run.expect(ha.online(victim), within="15 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(ha.answering(guests), within="10 min")

    run.claim(downtime(guests), at_most=objectives.rto)
    run.claim(collateral_resets(victim, resting), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
