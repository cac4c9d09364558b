"""A whole room loses power at once: the other one takes over all that ran there."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    collateral_resets,
    downtime,
    overlaps,
    power_spread,
    recovery_in_turn,
    start_after_death,
    violations,
)
from pytest_pveha.observe import audits, ha, placement, quorum


@pytest.mark.destructive(
    blast="one room and its guests",
    expected="9 min",
    breaks=("room-power-cut",),
    may=("service-stopped",),
    site_reset=True,
)
@pytest.mark.roles("room-with-master", "other-room")
@pytest.mark.needs(rooms=2, tiebreaker=True)
def test_site_loss(room, roomers, nodes, guests, faults, run, objectives):
    """When all nodes of a room lose power at once, the other room runs all their HA guests within their RTO."""
    left = nodes - room
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.room_power_cut(room):
        run.expect(quorum.kept(left), within="45 s")
        run.expect(ha.all_fenced(roomers.nodes(nodes)), within="5 min")
        run.expect(ha.started(roomers, on=left), within="10 min")
        run.expect(placement.by_the_rules(roomers), within="1 min")
        run.expect(placement.within_memory(left), within="1 min")
        run.expect(ha.answering(roomers), within="20 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("1 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(power_spread(room), at_most=5)
    run.claim(recovery_in_turn(roomers, *room), at_most=objectives.rto)
    run.claim(downtime(roomers), at_most=objectives.rto)
    run.claim(answer_slowdown(roomers), at_most=objectives.slowdown)
    run.claim(start_after_death(roomers, roomers), at_least=0)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(*room), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
