"""``pveha stop``: whoever holds the site is asked to end; nobody there is said so."""

from __future__ import annotations

import pytest
from cli_kit import SIMULATED, Shell

from pytest_pveha.inventory import load
from pytest_pveha.record.lease import Lease


def test_the_holder_is_asked(shell: Shell) -> None:
    """The holder sees the reason, and the command names the holder."""
    lease = Lease(load(SIMULATED).name, shell.environment)
    lease.take()
    try:
        done = shell.pveha("stop", str(SIMULATED), "--why", "the night shift wants its cluster back")
        assert done.code == 0
        assert "was asked to heal and end" in done.out
        assert lease.stop_asked() == "the night shift wants its cluster back"
    finally:
        lease.give_back()


@pytest.mark.parametrize("again", [False, True])
def test_nobody_is_there(shell: Shell, again: bool) -> None:
    """Without a run on the site nothing is asked, also where one was before."""
    if again:
        lease = Lease(load(SIMULATED).name, shell.environment)
        lease.take()
        lease.give_back()
    done = shell.pveha("stop", str(SIMULATED))
    assert (done.code, done.out.strip()) == (1, "no run is on this site")
