"""What lies between the rooms is good enough for corosync, measured from every node; nothing is broken."""

import pytest

from pytest_pveha.judge import jitter, packet_loss, ring_latency, round_trip, violations
from pytest_pveha.observe import audits


@pytest.mark.readiness
@pytest.mark.needs(rooms=2)
def test_ways_between_the_rooms(ways, run, objectives):
    """From every node each way to the other room is short, even and without loss, and corosync does not complain."""
    run.measure(ways.only_between)
    run.hold("1 min")
    run.audit(audits.RING)

    run.claim(round_trip(ways.between), at_most=objectives.rtt)
    run.claim(ring_latency(ways.between), at_most=objectives.rtt)
    run.claim(jitter(ways.between), at_most=objectives.jitter)
    run.claim(packet_loss(ways.between), at_most=objectives.packet_loss)
    run.claim(violations([audits.RING]), none=True)


@pytest.mark.readiness
@pytest.mark.needs(rooms=2, quorum_device=True)
def test_ways_to_the_tiebreaker(ways, run, objectives):
    """From every node the quorum device's machine is near enough, and no packet to it is lost."""
    run.measure(ways.only_to_device)

    run.claim(round_trip(ways.to_device), at_most=objectives.rtt_tiebreaker)
    run.claim(packet_loss(ways.to_device), at_most=objectives.packet_loss)
