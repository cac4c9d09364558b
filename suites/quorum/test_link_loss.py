"""A corosync link fails: that is what the other links are there for."""

import pytest

from pytest_pveha.judge import collateral_resets, downtime, fences, membership_changes, quorum_losses, violations
from pytest_pveha.observe import audits, ha, quorum


@pytest.mark.destructive(blast="nothing", expected="2 min 40 s", breaks=("link-loss",))
@pytest.mark.needs(links=2, proxmox=False)
def test_loss_of_a_link_everywhere(link, nodes, guests, faults, run):
    """When a corosync link fails on all nodes, nobody loses the membership, quorum or a guest."""
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.link_loss(nodes, link):
        run.hold("90 s")
    run.expect(quorum.link_up(nodes, link), within="1 min")
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("1 min")

    run.claim(membership_changes(nodes), none=True)
    run.claim(quorum_losses(nodes), none=True)
    run.claim(fences(), none=True)
    run.claim(downtime(guests), at_most=5)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="nothing", expected="2 min 40 s", breaks=("link-loss",))
@pytest.mark.needs(links=2, proxmox=False)
def test_loss_of_a_link_of_one_node(link, node, nodes, guests, faults, run):
    """When one node loses a corosync link, nobody loses the membership, quorum or a guest."""
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.link_loss(nodes.only(node), link):
        run.hold("90 s")
    run.expect(quorum.link_up(nodes, link), within="1 min")
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("1 min")

    run.claim(membership_changes(nodes), none=True)
    run.claim(quorum_losses(nodes), none=True)
    run.claim(fences(), none=True)
    run.claim(downtime(guests), at_most=5)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
