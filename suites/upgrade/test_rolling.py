"""An update goes through the cluster node by node: no guest fails, and nobody is fenced."""

import pytest

from pytest_pveha.judge import collateral_resets, downtime, fences, violations
from pytest_pveha.observe import audits, ha, upkeep


@pytest.mark.destructive(
    blast="every node in turn, its guests moved away first", expected="19 min", breaks=("maintenance", "clean-reboot")
)
@pytest.mark.needs(losses=1)
def test_rolling_reboot(nodes, guests, faults, run, objectives):
    """All nodes reboot one after the other, emptied before, as an update does it, and no guest fails."""

    def update(node):
        with faults.maintenance(node):
            run.expect(upkeep.emptied(node), within="20 min")
            with faults.clean_reboot(node):
                run.expect(upkeep.rebooted(node, run.before), within="15 min")
        run.expect(ha.online(node), within="5 min")
        run.hold("30 s")
        run.expect(upkeep.settled(guests, run.before), within="15 min")
        run.expect(ha.answering(guests), within="10 min")

    run.watch(guests, nodes)
    run.in_turn(nodes, update)
    run.hold("2 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(upkeep.same_version(nodes), within="1 min")

    run.claim(downtime(guests), at_most=objectives.live)
    run.claim(fences(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.destructive(blast="the HA daemons of every node, in turn", expected="4 min", breaks="service-restarted")
@pytest.mark.needs(nodes=2)
def test_rolling_restart_of_ha(nodes, guests, faults, run, objectives):
    """LRM, then CRM, restart on one node after the other, as an update of HA does, and no guest notices."""

    def update(node):
        with faults.service_restarted(node, "pve-ha-lrm"):
            run.expect(upkeep.ha_working(nodes), within="3 min")
            run.expect(upkeep.home(guests, run.before), within="3 min")
        with faults.service_restarted(node, "pve-ha-crm"):
            run.expect(upkeep.ha_working(nodes), within="5 min")
            run.expect(upkeep.home(guests, run.before), within="3 min")

    run.watch(guests, nodes)
    run.in_turn(nodes, update)
    run.hold("2 min")
    run.expect(ha.quorum_whole(), within="2 min")
    run.expect(upkeep.same_version(nodes), within="1 min")

    run.claim(downtime(guests), at_most=5)
    run.claim(fences(), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
