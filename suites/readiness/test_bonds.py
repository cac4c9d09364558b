"""Bonds of network cards notice what they are there for in time; nothing is broken."""

import pytest

from pytest_pveha.readiness.bonds import BONDS


@pytest.mark.readiness
@pytest.mark.parametrize("check", BONDS, ids=lambda check: check.name)
def test_bonds(check, run):
    """No bond lacks a member, or misses a partner that died silently later than corosync misses the node."""
    run.check(check)
