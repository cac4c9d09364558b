"""Everything that is on a site's register of open runs is healed: for ``pveha heal`` and the supervisor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pytest_pveha.clock import Clock, LiveClock
from pytest_pveha.embedded import attach
from pytest_pveha.errors import EvidenceError
from pytest_pveha.faults.mend import mend
from pytest_pveha.handles.connect import connect
from pytest_pveha.inventory import load
from pytest_pveha.record.lease import Lease
from pytest_pveha.record.openings import open_runs


def heal_site(inventory: Path, *, by: str, tell: Callable[[str], None], only: Path | None = None) -> int:
    """What earlier runs left on this site is healed; how many runs had left something.

    Args:
        by: who heals, for the journal.
        tell: hears each step.
        only: heal this run's folder alone.

    Raises:
        SiteBusy: a run is still on the site.
        HealFailed: something could not be undone; the message says what to do by hand.
    """
    declared = load(inventory)
    runs = open_runs(declared.name, os.environ)
    lease = Lease(declared.name)
    lease.take(wait=only is not None)
    try:
        left = [path for path in runs.list() if only is None or path == only.resolve()]
        if not left:
            return 0
        bound, clock = declared, None
        if declared.simulated:
            embedded = attach(declared)
            if embedded is None:  # the simulated site ended, and what was broken with it
                for path in left:
                    tell(f"{path}: its simulated site is gone; nothing is left to heal")
                    runs.remove(path)
                return len(left)
            bound, clock = embedded.inventory, embedded.clock()
        time: Clock = clock or LiveClock()
        site = connect(bound, time)
        try:
            for path in left:
                if not (path / "journal.jsonl").exists():
                    raise EvidenceError(
                        f"{path}: the run's journal is gone; look at the site, then remove its register"
                    )
                mend(path, site, runs, by=by, within=declared.model.objectives.settle, tell=tell)
                tell(f"{path}: healed, the site is as it was found")
        finally:
            site.close()
            if clock is not None:
                clock.close()
        return len(left)
    finally:
        lease.give_back()
