"""What people promise: a network of its own for fencing, a runbook that is known, and all of it proven again."""

import pytest


@pytest.mark.readiness
def test_fencing_network_is_apart(fence_network, run):
    """What fences a node goes through no switch that production uses, so that one failure does not take both."""
    run.check(fence_network)


@pytest.mark.readiness
def test_runbook_is_known(runbook, run):
    """The runbook for failures is there, and whoever needs it has acknowledged it in time."""
    run.check(runbook)


@pytest.mark.readiness
def test_repeated_after_updates_and_in_time(repetition, run):
    """All of it was proven again within the promised interval, and since the last update."""
    run.check(repetition)
