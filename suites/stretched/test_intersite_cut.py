"""The rooms do not hear each other any more: one goes on, the other stops in time, and no guest runs in both."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    arbiters_apart,
    both_quorate,
    downtime,
    overlaps,
    sides_reset,
    violations,
)
from pytest_pveha.observe import arbiters, audits, ha, quorum


@pytest.mark.destructive(blast="one room and its guests", expected="7 min", breaks=("room-cut",), site_reset=True)
@pytest.mark.needs(rooms=2, quorum_device=True)
def test_intersite_cut(halves, nodes, guests, mons, ring, faults, run, objectives):
    """Of two rooms that are cut from each other one goes on with all guests, and the other stops and resets itself.

    Corosync and Ceph each have an arbiter of their own, and both choose the same room.
    """
    one, other = halves
    run.watch(guests, nodes)
    run.witness(nodes)
    run.witness_mons(mons)
    with faults.room_cut(one):
        run.expect(quorum.one_side(one, other), within="45 s")
        run.expect(quorum.loser_refuses_writes(one, other), within="10 s")
        run.expect(arbiters.agree(one, other, mons), within="30 s")
        run.expect(quorum.loser_reset(one, other), within="10 min")
        run.expect(arbiters.data_served(nodes, mons), within="3 min")
        run.expect(ha.started(guests, on=nodes), within="10 min")
        run.expect(ha.answering(guests), within="20 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("1 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(downtime(guests), at_most=objectives.rto)
    run.claim(answer_slowdown(guests), at_most=objectives.slowdown)
    run.claim(both_quorate(one, other), at_most=ring.settles)
    run.claim(arbiters_apart(one, other, mons), at_most=30)
    run.claim(sides_reset(one, other), at_most=1)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
