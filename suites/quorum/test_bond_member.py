"""A node loses one card of a bond, each of them in turn: the bond carries on, and nobody notices."""

import pytest

from pytest_pveha.judge import collateral_resets, downtime, fences, membership_changes, quorum_losses, violations
from pytest_pveha.observe import audits, ha, quorum


@pytest.mark.destructive(blast="nothing: the bond's others carry on", expected="3 min", breaks="bond-member-loss")
@pytest.mark.roles("other", "crm-master")
def test_bond_member_loss(victim, bond_members, nodes, guests, faults, run):
    """When a bond of a node loses a member, whichever, no link, membership or guest is lost."""

    def lose(member):
        with faults.bond_member_loss(victim, member):
            run.hold("30 s")
            run.expect(quorum.links_up(nodes), within="10 s")
        run.hold("10 s")

    run.watch(guests, nodes)
    run.witness(nodes)
    run.one_by_one(bond_members, lose)
    run.expect(ha.quorum_whole(), within="1 min")

    run.claim(membership_changes(nodes), none=True)
    run.claim(quorum_losses(nodes), none=True)
    run.claim(fences(), none=True)
    run.claim(downtime(guests), at_most=5)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
