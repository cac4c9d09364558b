"""``pveha lease``: who holds a cluster, shown; and broken only when that is asked for. And stops from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_kit import SIMULATED, Realish, Shell
from real_style import write

from pytest_pveha.clock import LiveClock
from pytest_pveha.handles.cluster_lease import ClusterLease
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load


def held(path: Path, run: str = "0a1b2c3d") -> ClusterLease:
    """That cluster, held by a run of another machine."""
    clock = LiveClock()
    site = connect(load(path), clock)
    lease = ClusterLease(site.nodes, clock, run, "another-machine", 4711)
    lease.take()
    site.close()
    return lease


def test_nobody_somebody_nobody(realish: Realish, tmp_path: Path) -> None:
    """Free; held, with run, process and machine; and free again once it was broken on purpose."""
    inventory = write(realish.describe(), tmp_path / "real.yml")
    free = realish.shell.pveha("lease", inventory)
    assert (free.code, free.out.strip()) == (0, "nobody holds this cluster")
    held(inventory)
    shown = realish.shell.pveha("lease", inventory)
    assert shown.code == 1
    assert shown.out.startswith("held by run 0a1b2c3d of process 4711 on another-machine, for 1")
    stopped = realish.shell.pveha("stop", inventory, "--why", "the night shift")
    assert stopped.code == 0, stopped.err
    assert "process 4711 on another-machine was asked, on pve1, pve2, pve3, to heal and end" in stopped.out
    refused = realish.shell.pveha("heal", "--inventory", inventory)
    assert refused.code == 6
    assert "may be alive: end it with `pveha stop`" in refused.err
    broken = realish.shell.pveha("lease", inventory, "--break")
    assert broken.code == 0
    assert "the lease was broken; look for what that run left: pveha heal" in broken.out
    assert realish.shell.pveha("lease", inventory).code == 0
    healed = realish.shell.pveha("heal", "--inventory", inventory)
    assert healed.code == 0, healed.err
    assert "the nodes remember run 0a1b2c3d, which broke nothing: what it left is removed" in healed.out
    assert "nothing to heal" in realish.shell.pveha("heal", "--inventory", inventory).out
    assert realish.shell.pveha("stop", inventory).code == 1


@pytest.mark.parametrize("command", ["lease"])
def test_a_simulated_site_that_does_not_run(shell: Shell, command: str) -> None:
    """There is nobody on it, and nothing is started to say so."""
    done = shell.pveha(command, SIMULATED)
    assert done.code == 4
    assert "this simulated site does not run; nobody is on it" in done.err
