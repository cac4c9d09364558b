"""A host loses one of Ceph's networks: its OSDs are given up, and the others serve on, whatever health says."""

import pytest

from pytest_pveha.judge import (
    collateral_resets,
    fences,
    flaps,
    full_ratios,
    lost_writes,
    silent_health,
    unreadable_data,
    unserved,
    violations,
    write_stall,
)
from pytest_pveha.observe import audits, ceph, ha

PEERING = 30
"""Seconds in which placement groups find themselves after OSDs were lost, or came back."""


@pytest.mark.destructive(
    blast="one node's OSDs; on the public network its guests' disks", expected="5 min", breaks=("ceph-network-cut",)
)
@pytest.mark.roles("other")
@pytest.mark.needs(ceph=True)
@pytest.mark.parametrize("network", ["cluster", "public"])
def test_network_of_one_host(victim, network, osds, spared, guests, faults, run, objectives):
    """With a host cut off Ceph's network, guests of the others write on after a stall that is promised."""
    run.watch(guests)
    run.watch_ceph()
    with faults.ceph_network_cut(victim, network):
        run.expect(ceph.all_down(osds), within="1 min")
        run.hold("2 min")
    run.expect(ceph.all_up(osds), within="10 min")
    run.expect(ceph.clean(), within="30 min")
    run.hold("1 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(write_stall(spared), at_most=objectives.write_stall)
    run.claim(lost_writes(guests), at_most=0)
    run.claim(unserved(), at_most=PEERING)
    run.claim(silent_health(), at_most=PEERING)
    run.claim(unreadable_data(), none=True)
    run.claim(full_ratios(), none=True)
    run.claim(flaps(osds), none=True)
    run.claim(fences(), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
