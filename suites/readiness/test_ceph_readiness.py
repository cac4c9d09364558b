"""What Ceph must be like, and what is worth knowing of it before it is broken."""

import pytest

from pytest_pveha.readiness import ceph as checks


@pytest.mark.readiness
@pytest.mark.needs(ceph=True)
@pytest.mark.parametrize("check", [*checks.BLOCKERS, *checks.FINDINGS], ids=lambda check: check.name)
def test_ceph_is_ready(check, run):
    """Ceph is fit to lose a part of it."""
    run.check(check)


@pytest.mark.readiness
@pytest.mark.needs(ceph=True)
def test_failure_domain(ceph_failure_domain, run):
    """The loss that the inventory says Ceph survives leaves every placement group served."""
    run.check(ceph_failure_domain)


@pytest.mark.readiness
@pytest.mark.needs(ceph=True)
def test_networks_apart(ceph_networks, run):
    """Clients, OSDs among themselves and guests do not share a network, nor a switch."""
    run.check(ceph_networks)
