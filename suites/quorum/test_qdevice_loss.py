"""The quorum device cannot be reached: the cluster must be able to spare it."""

import pytest

from pytest_pveha.judge import collateral_resets, downtime, fences, membership_changes, quorum_losses, violations
from pytest_pveha.observe import audits, ha, quorum


@pytest.mark.destructive(blast="the quorum device's votes", expected="2 min 30 s", breaks=("qdevice-loss",))
@pytest.mark.needs(quorum_device=True, proxmox=False)
def test_cluster_spares_the_quorum_device(nodes, guests, faults, run):
    """Without its quorum device the cluster goes on with the nodes' own votes, and it counts the device again later."""
    run.watch(guests, nodes)
    run.witness(nodes)
    run.expect(quorum.device_votes(nodes), within="10 s")
    with faults.qdevice_loss():
        run.expect(quorum.device_gone(nodes), within="1 min")
        run.expect(quorum.kept(nodes), within="10 s")
        run.hold("1 min")
    run.expect(quorum.device_votes(nodes), within="1 min")
    run.expect(ha.quorum_whole(), within="1 min")
    run.hold("1 min")

    run.claim(quorum_losses(nodes), none=True)
    run.claim(membership_changes(nodes), none=True)
    run.claim(fences(), none=True)
    run.claim(downtime(guests), at_most=5)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
