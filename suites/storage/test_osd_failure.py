"""An OSD fails: clients write on, and Ceph mends itself where there is a place for the copies."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    collateral_resets,
    flaps,
    full_ratios,
    lost_writes,
    rebuild_slowdown,
    rebuilt,
    unreadable_data,
    unserved,
    violations,
    write_slowdown,
    write_stall,
)
from pytest_pveha.observe import audits, ceph, ha

PEERING = 30
"""Seconds in which placement groups find themselves after an OSD was lost, or came back."""


@pytest.mark.destructive(blast="one OSD", expected="3 min", breaks=("osd-killed",))
@pytest.mark.roles("other")
@pytest.mark.needs(ceph=True)
def test_killed_osd_comes_back(osd, guests, faults, run, objectives):
    """An OSD that is killed comes back by itself, and meanwhile writes stall no longer than promised."""
    run.watch(guests)
    run.watch_ceph()
    with faults.osd_killed(osd):
        run.expect(ceph.back(osd), within="5 min")
    run.expect(ceph.clean(), within="15 min")
    run.hold("2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(write_stall(guests), at_most=objectives.write_stall)
    run.claim(lost_writes(guests), at_most=0)
    run.claim(unserved(), at_most=PEERING)
    run.claim(unreadable_data(), none=True)
    run.claim(full_ratios(), none=True)
    run.claim(flaps([osd]), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one OSD", expected="15 min", breaks=("osd-lost",))
@pytest.mark.roles("other")
@pytest.mark.needs(ceph=True)
def test_lost_osd_is_rebuilt(osd, osd_loss, guests, faults, run, objectives):
    """An OSD that stays away is marked out by itself and rebuilt where there is a place, while clients write on."""
    run.watch(guests)
    run.watch_ceph()
    with faults.osd_lost(osd):
        run.expect(ceph.as_predicted(osd_loss.told), within="3 min")
        run.expect(osd_loss.given_up(osd), within=osd_loss.out_within)
        run.expect(osd_loss.begun(), within="3 min")
        run.expect(osd_loss.mended(), within=osd_loss.mended_within)
    run.expect(ceph.all_up([osd]), within="10 min")
    run.expect(ceph.clean(), within="60 min")
    run.hold("2 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(write_stall(guests), at_most=objectives.write_stall)
    run.claim(rebuild_slowdown(guests, osd_loss.nothing_to_copy), at_most=objectives.rebuild_slowdown)
    run.claim(write_slowdown(guests), at_most=objectives.slowdown)
    run.claim(answer_slowdown(guests), at_most=objectives.slowdown)
    run.claim(lost_writes(guests), at_most=0)
    run.claim(rebuilt(osd_loss.unproven), none=True)
    run.claim(unserved(), at_most=PEERING)
    run.claim(unreadable_data(), none=True)
    run.claim(full_ratios(), none=True)
    run.claim(flaps([osd]), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
