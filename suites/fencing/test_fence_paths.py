"""Every node can end every other one, by its BMC, on its own network path."""

import pytest

from pytest_pveha.judge import broken_paths, collateral_resets, fence_path_time, violations, wrong_machines
from pytest_pveha.observe import audits, ha


@pytest.mark.readiness
@pytest.mark.needs(nodes=2, proxmox=False)
def test_every_node_reaches_every_bmc(nodes, run, objectives):
    """From each node every other node's BMC answers in time, lets us switch power, and is that node's own."""
    run.try_fence_paths(within=objectives.fence_path)

    run.claim(broken_paths(nodes), none=True)
    run.claim(fence_path_time(nodes), at_most=objectives.fence_path)
    run.claim(wrong_machines(nodes), none=True)


@pytest.mark.destructive(blast="one node and its guests", expected="6 min", breaks=("power-cut-by-peer",))
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1, proxmox=False)
def test_a_peer_cuts_the_power(victim, nodes, guests, faults, run):
    """A command typed on one node cuts another one's power, and nobody else's."""
    run.watch(guests, nodes)
    with faults.power_cut_by_peer(victim):
        run.expect(ha.membership_lost(victim), within="1 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")

    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
