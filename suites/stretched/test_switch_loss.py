"""A switch or a power feed fails: others must carry the site, and the way to fence must remain."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    broken_paths,
    collateral_resets,
    downtime,
    fence_path_time,
    fences,
    membership_changes,
    overlaps,
    quorum_losses,
    recovery_in_turn,
    start_after_death,
    violations,
)
from pytest_pveha.observe import arbiters, audits, ha, placement, quorum


def others_carry(loss, nodes, guests, mons, run, objectives):
    """While a switch is lost nobody misses it, every node can still fence every other, and all is as before after."""
    run.watch(guests, nodes)
    run.witness(nodes)
    run.witness_mons(mons)
    with loss:
        run.hold("90 s")
        run.expect(arbiters.undisturbed(mons), within="1 min")
        run.try_fence_paths(within=objectives.fence_path)
    run.expect(quorum.links_up(nodes), within="1 min")
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("1 min")

    run.claim(membership_changes(nodes), none=True)
    run.claim(quorum_losses(nodes), none=True)
    run.claim(fences(), none=True)
    run.claim(broken_paths(nodes), none=True)
    run.claim(fence_path_time(nodes), at_most=objectives.fence_path)
    run.claim(downtime(guests), at_most=5)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(
    blast="nothing: other switches carry the site", expected="3 min", breaks=("switch-loss",), site_reset=True
)
@pytest.mark.needs(switches=True, links=2)
def test_switch_loss(switch, nodes, guests, mons, faults, run, objectives):
    """Without one switch nobody loses the membership, quorum or a guest, and every node can still fence every other."""
    others_carry(faults.switch_loss(switch), nodes, guests, mons, run, objectives)


@pytest.mark.destructive(
    blast="nothing: other switches carry the site",
    expected="6.5 min",
    breaks=("switch-loss", "switch-pulled"),
    site_reset=True,
)
@pytest.mark.needs(switches=True, links=2, switch_hand=True)
def test_switch_pulled(switch, nodes, guests, mons, faults, run, objectives):
    """Without a switch that a person takes off the network corosync, Ceph, the guests and the way to fence go on."""
    others_carry(faults.switch_pulled(switch), nodes, guests, mons, run, objectives)


@pytest.mark.destructive(
    blast="the nodes on that feed and their guests",
    expected="9 min",
    breaks=("feed-cut", "room-power-cut"),
    site_reset=True,
)
@pytest.mark.needs(feeds=True)
def test_feed_loss(feed, dark, darkened, nodes, guests, faults, run, objectives):
    """When a power feed fails, the nodes on other feeds run all HA guests of those that hung on it within their RTO."""
    left = nodes - dark
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.feed_cut(feed):
        run.expect(quorum.kept(left), within="45 s")
        run.expect(ha.all_fenced(darkened.nodes(nodes)), within="5 min")
        run.expect(ha.started(darkened, on=left), within="10 min")
        run.expect(placement.within_memory(left), within="1 min")
        run.expect(ha.answering(darkened), within="20 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.hold("1 min")
    run.expect(ha.answering(guests), within="2 min")

    run.claim(recovery_in_turn(darkened, *dark), at_most=objectives.rto)
    run.claim(downtime(darkened), at_most=objectives.rto)
    run.claim(answer_slowdown(darkened), at_most=objectives.slowdown)
    run.claim(start_after_death(darkened, darkened), at_least=0)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(*dark), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
