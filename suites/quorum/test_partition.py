"""The network between the nodes is cut: one side goes on, the other stops in time, and no guest runs on both."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    both_quorate,
    collateral_resets,
    double_runs,
    downtime,
    fence_margin,
    fences,
    lost_writes,
    overlaps,
    recovery_time,
    rejoins,
    sides_reset,
    start_after_death,
    violations,
    write_slowdown,
    write_stall,
)
from pytest_pveha.observe import audits, ha, placement, quorum


@pytest.mark.destructive(blast="the nodes cut off and their guests", expected="6 min", breaks=("partition",))
@pytest.mark.needs(nodes=3)
def test_minority_stops_before_majority_starts(minority, stranded, nodes, guests, ring, faults, run, objectives):
    """A minority that is cut off stops writing and resets itself before its HA guests are started by the majority."""
    majority = nodes - minority
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.partition(minority):
        run.expect(quorum.lost(minority), within="30 s")
        run.expect(quorum.kept(majority), within="10 s")
        run.expect(quorum.refuses_writes(minority), within="10 s")
        run.expect(quorum.reset(stranded.resetting(nodes)), within="10 min")
        run.expect(ha.all_fenced(stranded.nodes(nodes)), within="5 min")
        run.expect(ha.started(stranded, on=majority), within="6 min")
        run.expect(placement.by_the_rules(stranded), within="1 min")
        run.expect(placement.within_memory(majority), within="1 min")
        run.expect(ha.answering(stranded), within="20 min")
    run.expect(ha.all_online(minority), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(recovery_time(stranded), at_most=objectives.rto)
    run.claim(both_quorate(minority, majority), at_most=ring.settles)
    run.claim(fence_margin(stranded), at_least=objectives.fence_margin)
    run.claim(start_after_death(stranded, stranded), at_least=0)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(lost_writes(stranded), none=True)
    run.claim(double_runs(stranded), none=True)
    run.claim(write_stall(guests), at_most=objectives.write_stall)
    run.claim(write_slowdown(stranded), at_most=objectives.slowdown)
    run.claim(answer_slowdown(stranded), at_most=objectives.slowdown)
    run.claim(collateral_resets(*stranded.resetting(nodes)), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="nothing: the nodes cut off run no HA guest", expected="8 min", breaks=("partition",))
@pytest.mark.needs(nodes=3)
def test_idle_minority_is_left_alone(idle, nodes, guests, ring, faults, run):
    """A minority that runs no HA guest stops writing, is neither reset nor fenced, and the majority leads HA."""
    majority = nodes - idle
    run.expect(ha.at_rest(idle), within="12 min")
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.partition(idle):
        run.expect(quorum.lost(idle), within="30 s")
        run.expect(quorum.kept(majority), within="10 s")
        run.expect(quorum.refuses_writes(idle), within="10 s")
        run.expect(ha.led_by(majority), within="4 min")
        run.hold_broken("2 min")
        run.expect(quorum.refuses_writes(idle), within="10 s")
    run.expect(ha.all_online(idle), within="5 min")
    run.expect(ha.quorum_whole(), within="2 min")

    run.claim(both_quorate(idle, majority), at_most=ring.settles)
    run.claim(downtime(guests), at_most=5)
    run.claim(fences(), none=True)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="the nodes cut off, for some seconds", expected="2 min 30 s", breaks=("partition",))
@pytest.mark.needs(nodes=3, proxmox=False)
def test_short_cut_resets_nobody(minority, blip, nodes, guests, faults, run):
    """A cut of the corosync network that is over within seconds resets and fences nobody, and no guest notices it."""
    run.watch(guests, nodes)
    run.witness(nodes)
    faults.blip(minority, lasting=blip)
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("2 min")

    run.claim(rejoins(nodes), at_most=1)
    run.claim(downtime(guests), at_most=5)
    run.claim(fences(), none=True)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="the nodes cut off, for some seconds", expected="2 min 20 s", breaks=("partition",))
@pytest.mark.roles("other")
@pytest.mark.needs(nodes=3, proxmox=False)
@pytest.mark.parametrize("direction", ["in", "out"])
def test_one_way_cut_is_a_cut(minority, direction, nodes, guests, ring, faults, run):
    """Nodes that are heard and do not hear, or the other way round, lose quorum as if they were cut off altogether."""
    majority = nodes - minority
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.partition(minority, direction=direction):
        run.expect(quorum.lost(minority), within=f"{ring.settles} s")
        run.expect(quorum.kept(majority), within="5 s")
        run.expect(quorum.refuses_writes(minority), within="5 s")
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("2 min")

    run.claim(both_quorate(minority, majority), at_most=ring.settles)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one half of the nodes and their guests", expected="6 min", breaks=("partition",))
@pytest.mark.needs(quorum_device=True, even=True)
def test_even_split_has_one_winner(halves, nodes, guests, ring, faults, run):
    """Of two halves the quorum device keeps one; the other stops and resets itself, and the winner runs all guests."""
    one, other = halves
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.even_split(one):
        run.expect(quorum.one_side(one, other), within="45 s")
        run.expect(quorum.loser_reset(one, other), within="10 min")
        run.expect(ha.started(guests, on=nodes), within="6 min")
        run.expect(ha.answering(guests), within="20 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(both_quorate(one, other), at_most=ring.settles)
    run.claim(sides_reset(one, other), at_most=1)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
