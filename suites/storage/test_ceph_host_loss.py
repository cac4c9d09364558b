"""A host with OSDs and a mon loses power: Ceph serves on as size, min_size and failure domain promise."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    collateral_resets,
    flaps,
    full_ratios,
    lost_writes,
    unreadable_data,
    unserved,
    violations,
    write_stall,
)
from pytest_pveha.observe import audits, ceph, ha

PEERING = 30
"""Seconds in which placement groups find themselves after OSDs were lost, or came back."""


@pytest.mark.destructive(blast="one node and its guests", expected="10 min", breaks=("power-cut",))
@pytest.mark.roles("other", "crm-master")
@pytest.mark.needs(ceph=True, losses=1)
def test_ceph_survives_the_loss_of_a_host(victim, osds, host_loss, spared, nodes, guests, faults, run, objectives):
    """With all OSDs and the mon of a host gone the others' guests write on, and what was foretold is what happens."""
    run.watch(guests, nodes)
    run.watch_ceph()
    with faults.power_cut(victim):
        run.expect(ha.membership_lost(victim), within="1 min")
        run.expect(ceph.mons_in_quorum(host_loss.mons), within="2 min")
        run.expect(ceph.as_predicted(host_loss.told), within="3 min")
        run.expect(ha.fenced(victim), within="5 min")
        run.expect(ha.answering(guests), within="20 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ceph.all_up(osds), within="10 min")
    run.expect(ceph.clean(), within="60 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("1 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(write_stall(spared), at_most=objectives.write_stall)
    run.claim(lost_writes(guests), at_most=0)
    run.claim(answer_slowdown(guests), at_most=objectives.slowdown)
    run.claim(unserved(), at_most=PEERING)
    run.claim(unreadable_data(), none=True)
    run.claim(full_ratios(), none=True)
    run.claim(flaps(osds), none=True)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
