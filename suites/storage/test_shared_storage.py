"""The server of a shared storage falls silent: guests wait for it, and HA leaves them alone."""

import pytest

from pytest_pveha.judge import (
    collateral_resets,
    downtime,
    failed_requests,
    fences,
    ha_acts,
    lost_writes,
    restarts,
    violations,
    write_stall,
)
from pytest_pveha.observe import audits, ha, storages
from pytest_pveha.readiness.storage import REDUNDANT


@pytest.mark.destructive(
    blast="the guests whose disks lie there: their writes hang", expected="3 min", breaks=("storage-cut",)
)
@pytest.mark.needs(storages=True)
def test_guests_outlast_a_silent_server(served, lying, nodes, guests, faults, run, objectives):
    """Guests whose storage is silent for half a minute wait and go on: none gets an error, and HA moves nothing."""
    run.watch(guests, nodes)
    run.witness(nodes)
    run.expect(storages.errors_read(lying), within="30 s")
    with faults.storage_cut(served, lasting="30 s"):
        run.expect(storages.noticed(served, nodes), within="30 s")
        run.hold_broken("30 s")
    run.hold("2 min")
    run.expect(storages.active(served, nodes), within="1 min")
    run.expect(ha.answering(guests), within="2 min")
    run.expect(storages.errors_read(lying), within="30 s")

    run.claim(failed_requests(lying), none=True)
    run.claim(lost_writes(lying), none=True)
    run.claim(write_stall(lying), at_most=objectives.write_stall)
    run.claim(restarts(lying, nodes), none=True)
    run.claim(ha_acts(lying, nodes), none=True)
    run.claim(downtime(guests), at_most=5)
    run.claim(fences(), none=True)
    run.claim(collateral_resets(), none=True)
    run.claim(violations(audits.CLUSTER), none=True)


@pytest.mark.readiness
@pytest.mark.needs(storages=True)
def test_the_server_is_no_single_point_of_failure(run):
    """Somebody has declared that no single machine, switch or cable takes the server of a shared storage away."""
    run.check(REDUNDANT)
