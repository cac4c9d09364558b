"""The rooms do not hear each other, and the tiebreaker reaches one of them: that one goes on."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    both_quorate,
    collateral_resets,
    downtime,
    fence_margin,
    overlaps,
    start_after_death,
    violations,
)
from pytest_pveha.observe import audits, ha, quorum


@pytest.mark.destructive(
    blast="one room and its guests",
    expected="7 min",
    breaks=("room-cut",),
    may=("service-stopped",),
    site_reset=True,
)
@pytest.mark.roles("room-with-master", "other-room")
@pytest.mark.needs(rooms=2, tiebreaker=True)
def test_tiebreaker_sees_one_side(room, roomers, nodes, guests, ring, faults, run, objectives):
    """A room that reaches neither the other nor the tiebreaker stops and resets itself; the other one goes on."""
    seen = nodes - room
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.room_cut(room, blind=True):
        run.expect(quorum.lost(room), within="45 s")
        run.expect(quorum.kept(seen), within="45 s")
        run.expect(quorum.refuses_writes(room), within="10 s")
        run.expect(quorum.reset(roomers.resetting(nodes)), within="10 min")
        run.expect(ha.all_fenced(roomers.nodes(nodes)), within="5 min")
        run.expect(ha.started(roomers, on=seen), within="10 min")
        run.expect(ha.answering(roomers), within="20 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("1 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(downtime(guests), at_most=objectives.rto)
    run.claim(answer_slowdown(roomers), at_most=objectives.slowdown)
    run.claim(both_quorate(room, seen), at_most=ring.settles)
    run.claim(fence_margin(roomers), at_least=objectives.fence_margin)
    run.claim(start_after_death(roomers, roomers), at_least=0)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(*roomers.resetting(nodes)), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
