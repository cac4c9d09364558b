"""A site in two rooms is laid out so that one room, one switch or one UPS may be lost; nothing is broken."""

import pytest

from pytest_pveha.readiness.layout import ROOMS


@pytest.mark.readiness
@pytest.mark.needs(rooms=2)
@pytest.mark.parametrize("check", ROOMS, ids=lambda check: check.name)
def test_laid_out_for_the_loss(check, run):
    """By its votes, its tiebreaker, its switches, its power and its memory the site may lose a part."""
    run.check(check)
