"""What the gate asks before anything is broken, as tests."""

import pytest

from pytest_pveha.readiness.backups import BACKUP_CHECKS, SERVER_CHECK
from pytest_pveha.readiness.checks import CHECKS


@pytest.mark.readiness
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_site_is_ready(check, run):
    """The site is fit for destructive tests."""
    run.check(check)


@pytest.mark.readiness
@pytest.mark.needs(backup=True)
@pytest.mark.parametrize("check", BACKUP_CHECKS, ids=lambda check: check.name)
def test_backups_are_ready(check, run):
    """The backups are such that one can rely on them."""
    run.check(check)


@pytest.mark.readiness
@pytest.mark.needs(pbs=True)
def test_backup_server_agrees(run):
    """The backup server itself has what the cluster believes."""
    run.check(SERVER_CHECK)
