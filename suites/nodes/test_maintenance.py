"""A node is taken out of service and given back, as for work on it.

A node that is powered off with Ceph told to wait for it (noout), and a second loss meanwhile, belong here too.
"""

import pytest

from pytest_pveha.handles.guest import Nodes
from pytest_pveha.judge import collateral_resets, downtime, moves, time_away, time_home, time_to_leave, violations
from pytest_pveha.observe import audits, ha
from pytest_pveha.observe import nodes as node

EMPTIED = 600
"""Seconds in which a node is to be empty, and full again."""
LEFT = 60
"""Seconds in which HA is to call a node online again (measured: 14)."""


@pytest.mark.destructive(blast="one node's guests move", expected="12 min", breaks=("maintenance",))
@pytest.mark.roles("crm-master", "other")
@pytest.mark.needs(nodes=3)
def test_maintenance_on_and_off(victim, residents, nodes, guests, faults, run, objectives):
    """A node in maintenance is emptied without a fence, goes on voting, and has its guests back soon after."""
    run.watch(guests, nodes)
    with faults.maintenance(victim):
        run.expect(ha.started(residents, on=nodes - {victim}), within="10 min")
        run.expect(node.empty(victim), within="2 min")
        run.expect(node.votes(victim), within="30 s")
        run.hold("1 min")
    run.expect(ha.online(victim), within="2 min")
    run.expect(ha.started(residents, on=Nodes([victim])), within="10 min")
    run.expect(node.not_fenced(victim), within="1 min")
    run.expect(ha.answering(guests), within="10 min")
    run.hold("2 min")

    run.claim(time_away(residents, victim), at_most=EMPTIED)
    run.claim(time_to_leave(victim), at_most=LEFT)
    run.claim(time_home(residents, victim), at_most=EMPTIED)
    run.claim(downtime(residents), at_most=objectives.live)
    run.claim(moves(guests), at_most=1)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
