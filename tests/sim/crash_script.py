"""A run that is killed: it cuts a node's power and sends SIGKILL to itself at one exact point.

    crash_script.py INVENTORY REPORTS {before|after} KIND {supervised|alone}
    crash_script.py INVENTORY REPORTS at SECONDS {supervised|alone}

``before`` and ``after`` mean the journal line of that kind; ``at`` means that long after the fault took effect,
whatever the run is doing then: the one who kills is a participant of the site's time beside it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_pveha import supervisor
from pytest_pveha.inventory import load
from pytest_pveha.observe import ha
from pytest_pveha.record.journal import Journal, Line
from pytest_pveha.scenario.campaign import Campaign, Plan
from pytest_pveha.scenario.run import Faults

TEST = "crash_script.py::test_that_dies"
VICTIM = "pve3"
"""It is the CRM master with this seed, and the home of a guest without HA, which nobody brings back but its boot."""


def die(*_: object) -> None:
    """Nothing after this happens."""
    os.kill(os.getpid(), signal.SIGKILL)


class DyingJournal(Journal):
    """Kills its process right before or right after the line of one kind."""

    when: str
    kind: str

    def write(self, kind: str, data: Mapping[str, Any], test: str | None = None) -> Line:
        if (self.when, self.kind) == ("before", kind):
            die()
        line = super().write(kind, data, test)
        if (self.when, self.kind) == ("after", kind):
            die()
        return line


class NoSupervisor:
    """As if the supervisor had been killed with the run."""

    def __init__(self, run_dir: Path, inventory: Path) -> None: ...

    def dismiss(self) -> None: ...


def main() -> None:
    inventory, reports, when, what, watched = sys.argv[1:]
    DyingJournal.when, DyingJournal.kind = when, what
    if watched == "alone":
        supervisor.Supervisor = NoSupervisor  # type: ignore[misc,assignment]
    campaign = Campaign(load(Path(inventory)), Path(reports), lambda waiting_for, saw: None)
    campaign.open(Plan("all", [{"id": TEST, "title": "a run that is killed"}]))
    campaign._journal.__class__ = DyingJournal  # type: ignore[union-attr]
    campaign.begin(TEST, "a run that is killed", 0.0)
    run = campaign.run(settle=1200.0, seed=1)
    site = campaign.site
    run.watch(site.guests)
    with Faults(run).power_cut(site.nodes[VICTIM]):
        if when == "at":
            killer = site.clock.spawn("killer", lambda: (site.clock.sleep(float(what)), die())[1])
            run.expect(ha.fenced(site.nodes[VICTIM]), within="10 min")
            killer.join()
    raise AssertionError(f"it outlived {when} {what}")


main()
