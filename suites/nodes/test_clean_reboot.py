"""A node goes down in good order, as for an update: its guests fare as the site's shutdown policy promises."""

import pytest

from pytest_pveha.judge import collateral_resets, downtime, not_moved, violations
from pytest_pveha.observe import audits, ha
from pytest_pveha.observe import nodes as node


@pytest.mark.destructive(blast="one node and its guests", expected="5 min", breaks=("clean-reboot",))
@pytest.mark.roles("other", "crm-master")
@pytest.mark.needs(losses=1)
def test_clean_reboot(victim, residents, policy, nodes, guests, faults, run):
    """When a node reboots in good order, its HA guests fare as the site's shutdown policy promises."""
    run.watch(guests, nodes)
    run.expect_news(*policy.on_reboot.news, about=[victim])
    with faults.clean_reboot(victim):
        run.expect(policy.on_reboot.going, within="15 min")
        run.expect(ha.membership_lost(victim), within="10 min")
        run.expect(policy.on_reboot.away, within="1 min")
        run.expect(ha.online(victim), within="15 min")
    run.expect(policy.on_reboot.back, within="10 min")
    run.expect(policy.on_reboot.fence, within="1 min")
    run.expect(node.closed_its_watchdog(victim), within="1 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(ha.answering(guests), within="20 min")

    run.claim(policy.on_reboot.outage, at_most=policy.on_reboot.limit)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one node and its guests", expected="7 min", breaks=("clean-power-off",))
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1)
def test_clean_power_off(victim, residents, policy, nodes, guests, faults, run):
    """When a node powers off in good order, its HA guests fare as the site's shutdown policy promises."""
    run.watch(guests, nodes)
    with faults.clean_power_off(victim):
        run.expect(policy.on_power_off.going, within="15 min")
        run.expect(ha.membership_lost(victim), within="10 min")
        run.hold("2 min")
        run.expect(policy.on_power_off.away, within="5 min")
        run.expect(policy.on_power_off.fence, within="1 min")
    run.expect(ha.online(victim), within="15 min")
    run.expect(policy.on_power_off.back, within="10 min")
    run.expect(node.closed_its_watchdog(victim), within="1 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(ha.answering(guests), within="20 min")

    run.claim(policy.on_power_off.outage, at_most=policy.on_power_off.limit)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="one node and its guests", expected="5 min", breaks=("clean-reboot",))
@pytest.mark.roles("other")
@pytest.mark.needs(losses=1)
def test_guests_move_before_a_reboot(victim, residents, policy, nodes, guests, faults, run, objectives):
    """Before a node reboots its HA guests move elsewhere by themselves, VMs without an interruption."""
    run.watch(guests, nodes)
    run.expect_news(*policy.on_reboot.news, about=[victim])
    with faults.clean_reboot(victim):
        run.expect(policy.on_reboot.going, within="15 min")
        run.expect(ha.membership_lost(victim), within="10 min")
        run.expect(ha.online(victim), within="15 min")
    run.expect(policy.on_reboot.back, within="10 min")
    run.expect(ha.answering(guests), within="20 min")

    run.claim(not_moved(residents, victim, policy.name), none=True)
    run.claim(downtime(residents), at_most=objectives.live)
    run.claim(collateral_resets(victim), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
