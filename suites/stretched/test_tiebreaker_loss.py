"""The tiebreaker is gone and both rooms are there: they go on, and it is noticed."""

import pytest

from pytest_pveha.judge import collateral_resets, downtime, fences, membership_changes, quorum_losses, violations
from pytest_pveha.observe import audits, ha, quorum


@pytest.mark.destructive(blast="the quorum device's vote", expected="3.5 min", breaks=("qdevice-loss",))
@pytest.mark.needs(rooms=2, quorum_device=True)
def test_tiebreaker_loss(nodes, guests, faults, run):
    """Without the tiebreaker both rooms go on as if nothing were, each node says that it is missing, and it returns."""
    run.watch(guests, nodes)
    run.witness(nodes)
    run.expect(quorum.device_votes(nodes), within="10 s")
    with faults.qdevice_loss():
        run.expect(quorum.device_gone(nodes), within="1 min")
        run.expect(quorum.device_missed(nodes), within="1 min")
        run.expect(quorum.kept(nodes), within="10 s")
        run.hold("2 min")
        run.expect(quorum.kept(nodes), within="10 s")
    run.expect(quorum.device_votes(nodes), within="1 min")
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("1 min")

    run.claim(quorum_losses(nodes), none=True)
    run.claim(membership_changes(nodes), none=True)
    run.claim(fences(), none=True)
    run.claim(downtime(guests), at_most=5)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="the tiebreaker node", expected="6 min", breaks=("power-cut",))
@pytest.mark.needs(rooms=2, tiebreaker_node=True)
def test_tiebreaker_node_loss(tiebreaker, nodes, guests, faults, run):
    """Without the node that is the tiebreaker both rooms stay one cluster and quorate, and it returns."""
    rooms = nodes - {tiebreaker}
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.power_cut(tiebreaker):
        run.expect(ha.membership_lost(tiebreaker), within="1 min")
        run.expect(quorum.kept(rooms), within="10 s")
        run.hold("2 min")
        run.expect(quorum.kept(rooms), within="10 s")
    run.expect(ha.online(tiebreaker), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")

    run.claim(quorum_losses(rooms), none=True)
    run.claim(downtime(guests), at_most=5)
    run.claim(collateral_resets(tiebreaker), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
