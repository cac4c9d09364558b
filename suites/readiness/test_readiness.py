"""What the gate asks before anything is broken, as tests."""

import pytest

from pytest_pveha.readiness.checks import CHECKS


@pytest.mark.readiness
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_site_is_ready(check, run):
    """The site is fit for destructive tests."""
    run.check(check)
