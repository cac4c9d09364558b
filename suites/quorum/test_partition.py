"""The network between the nodes is cut: one side goes on, the other stops in time, and no guest runs on both."""

import pytest

from pytest_pveha.judge import (
    both_quorate,
    collateral_resets,
    downtime,
    fence_margin,
    fences,
    overlaps,
    recovery_time,
    start_after_death,
    violations,
)
from pytest_pveha.observe import audits, ha, quorum


@pytest.mark.destructive(blast="the nodes cut off and their guests", expected="20 min", breaks=("partition",))
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
        run.expect(quorum.reset(stranded.nodes(nodes)), within="10 min")
        run.expect(ha.all_fenced(stranded.nodes(nodes)), within="5 min")
        run.expect(ha.started(stranded, on=majority), within="6 min")
        run.expect(ha.answering(stranded), within="20 min")
    run.expect(ha.all_online(minority), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")

    run.claim(recovery_time(stranded), at_most=objectives.rto)
    run.claim(both_quorate(minority, majority), at_most=ring.settles)
    run.claim(fence_margin(stranded), at_least=objectives.fence_margin)
    run.claim(start_after_death(stranded, stranded), at_least=0)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(*stranded.nodes(nodes)), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="the nodes cut off, for some seconds", expected="6 min", breaks=("partition",))
@pytest.mark.needs(nodes=3)
def test_short_cut_resets_nobody(minority, blip, nodes, guests, faults, run):
    """A cut of the corosync network that is over within seconds resets and fences nobody, and no guest notices it."""
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.partition(minority):
        run.hold(blip)
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("2 min")

    run.claim(downtime(guests), at_most=5)
    run.claim(fences(), none=True)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
