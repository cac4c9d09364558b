"""Sites that chose replication and a failover by hand: people follow the runbook, and it leads where it must."""

import pytest

from pytest_pveha.judge import (
    answer_slowdown,
    collateral_resets,
    data_loss,
    downtime,
    lost_span,
    overlaps,
    recovery_time,
    unconfirmed_steps,
    violations,
)
from pytest_pveha.observe import audits, ha, quorum, replication


@pytest.mark.destructive(
    blast="one room and its guests", expected="12.5 min", breaks=("room-power-cut",), site_reset=True
)
@pytest.mark.roles("other-room")
@pytest.mark.needs(rooms=2, manual_failover=True)
def test_dr_procedure(room, roomers, copies, nodes, guests, procedure, operator, faults, run, objectives):
    """With a room without power people bring its guests up in the other by the runbook, within their RTO and RPO."""
    left = nodes - room
    run.watch(guests, nodes)
    run.witness(nodes)
    with faults.room_power_cut(room, by_hand=True, at_most="3 h"):
        run.expect(quorum.kept(left), within="45 s")
        operator.follow(procedure.there, procedure.runbook, at=left)
        run.expect(ha.started(roomers, on=left), within="15 min")
        run.expect(replication.started_from(copies), within="1 min")
        run.expect(ha.answering(roomers), within="20 min")
    run.expect(ha.all_online(nodes), within="15 min")
    run.expect(ha.quorum_whole(), within="2 min")
    operator.follow(procedure.back, procedure.runbook, at=left)
    run.expect(ha.started(roomers, on=room), within="15 min")
    run.hold("1 min")
    run.expect(ha.answering(guests), within="5 min")

    run.claim(unconfirmed_steps(procedure.names), none=True)
    run.claim(recovery_time(roomers), at_most=objectives.rto)
    run.claim(downtime(roomers), at_most=objectives.rto)
    run.claim(answer_slowdown(roomers), at_most=objectives.slowdown)
    run.claim(lost_span(roomers), at_most=objectives.rpo)
    run.claim(data_loss(roomers), at_most=objectives.rpo)
    run.claim(overlaps(guests, nodes), none=True)
    run.claim(collateral_resets(*room), none=True)
    run.claim(violations(audits.CLUSTER), none=True)
