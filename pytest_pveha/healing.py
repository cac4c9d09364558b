"""Everything that a site's earlier runs left is healed, by whoever asks: ``pveha heal`` and the supervisor.

What is left is found on this machine's register and, by copies, on the nodes: a run of another machine, or one whose
folder is gone, is healed from what the nodes remember.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from pytest_pveha.clock import Clock, LiveClock
from pytest_pveha.embedded import attach
from pytest_pveha.errors import EvidenceError, HealFailed, PvehaError, SiteBusy, SiteError
from pytest_pveha.faults.keeping import STORE, Keeping, Kept, remembered
from pytest_pveha.faults.mend import mend, run_id
from pytest_pveha.handles.canary import sweep
from pytest_pveha.handles.cluster_lease import break_lease, lease_holder, seconds_left
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import Site as Inventory
from pytest_pveha.inventory import load
from pytest_pveha.record.journal import Journal, read
from pytest_pveha.record.lease import Lease
from pytest_pveha.record.openings import OpenRuns, open_runs, state_home
from pytest_pveha.record.questions import Desk

Tell = Callable[[str], None]

SWEEP = 10.0
"""Seconds that clearing away in one guest may take."""


def heal_site(inventory: Path, *, by: str, tell: Tell, only: Path | None = None, raw: bytes | None = None) -> int:
    """What earlier runs left on this site is healed; how many runs had left something.

    Args:
        by: who heals, for the journal.
        tell: hears each step.
        only: heal this run's folder alone.
        raw: what stood in the inventory when the run began, whatever has become of the file.

    Raises:
        SiteBusy: a run is still on the site.
        HealFailed: something could not be undone; the message says what to do by hand.
    """
    declared = load(inventory, raw)
    runs = open_runs(declared.name, os.environ)
    lease = Lease(declared.name)
    lease.take(wait=only is not None)
    try:
        left = [path for path in runs.list() if only is None or path == only.resolve()]
        if only is not None and not left:
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
            return _heal(declared, site, runs, left, by=by, tell=tell, elsewhere=only is None)
        finally:
            site.close()
            if clock is not None:
                clock.close()
    finally:
        lease.give_back()


def _heal(
    declared: Inventory, site: Site, runs: OpenRuns, left: list[Path], *, by: str, tell: Tell, elsewhere: bool
) -> int:
    ours = {_id_of(path) for path in left}
    litter = 0
    if elsewhere:
        for kept in (each for run, each in sorted(remembered(site).items()) if run not in ours):
            _refuse_living(site, kept.run, ours)
            if kept.unreadable:
                raise HealFailed(
                    f"the nodes remember run {kept.run} and what it broke ({', '.join(sorted(kept.unreadable))}), and "
                    f"no copy of how to undo it can be read: look into {STORE}/{kept.run} there, put it right by hand, "
                    f"then remove that folder on every node"
                )
            if not kept.plans and "found" not in kept.about:  # a wish that it end, say: it broke nothing
                Keeping(site, kept.run).clear()
                tell(f"the nodes remember run {kept.run}, which broke nothing: what it left is removed")
                litter += 1
                continue
            path = _rebuilt(declared, site, kept, by)
            tell(f"the nodes remember run {kept.run} of {kept.about.get('host', 'an unknown machine')}: {path}")
            runs.add(path)
            left.append(path)
            _recalled(kept, tell)
    failed: list[PvehaError] = []
    for path in left:
        try:
            _mend(declared, site, runs, path, by=by, tell=tell)
        except (HealFailed, EvidenceError) as error:  # another run's folder is no reason to leave this one's faults
            failed.append(error)
    if len(failed) > 1:
        raise HealFailed("; ".join(map(str, failed)))
    if failed:
        raise failed[0]
    if left or litter:
        _sweep(site, tell)
    holder = lease_holder(site.lease_on, site.clock, site.lease_folder)
    if holder is not None and holder.run in {_id_of(path) for path in left}:
        break_lease(site.lease_on, site.clock, site.lease_folder)
    return len(left) + litter


def _mend(declared: Inventory, site: Site, runs: OpenRuns, path: Path, *, by: str, tell: Tell) -> None:
    """What that run left is put right. HealFailed or EvidenceError where it is not."""
    if not (path / "journal.jsonl").exists():
        raise EvidenceError(f"{path}: the run's journal is gone; look at the site, then remove its register")
    mend(path, site, runs, by=by, within=declared.model.objectives.settle, tell=tell)
    tell(f"{path}: healed, the site is as it was found")


def _recalled(kept: Kept, tell: Tell) -> None:
    """What that run asked people counts as asked here; what nobody was seen to do is told."""
    desk = Desk(kept.run)
    for step, asked in sorted(kept.asked.items()):
        desk.recall(step, asked.text, asked.who, asked.settled, asked.said)
        if asked.settled:
            continue
        answer = (
            f"{asked.said.user} said {asked.said.word}" if asked.said else "no answer is known: somebody may do it yet"
        )
        tell(f"run {kept.run} asked {asked.who} ({step}): {asked.text} {answer}")


def _sweep(site: Site, tell: Tell) -> None:
    """No run's ledger is in any canary; where that cannot be seen it is told, for its writer ends by itself."""
    for guest in site.guests.canaries:
        try:
            node = site.cluster.guests(site.clock.deadline(SWEEP))[guest.sid].node
            sweep(site.inside(guest.sid, node), guest.canary_folder, site.clock.deadline(SWEEP))
        except (SiteError, KeyError) as error:
            tell(f"{guest.sid}: what a run wrote in it may be left there, and goes with the next run: {error}")


def _id_of(path: Path) -> str:
    try:
        return run_id(path, read(path / "journal.jsonl", tolerant_tail=True))
    except EvidenceError:
        return path.name.rpartition("-")[2]


def _refuse_living(site: Site, run: str, ours: set[str]) -> None:
    """Return unless the run that left this may still be alive, on another machine."""
    holder = lease_holder(site.lease_on, site.clock, site.lease_folder)
    if holder is None or holder.run != run or holder.run in ours:
        return
    left = seconds_left(holder, site.lease_on, site.clock)
    if left > 0 and (holder.host != socket.gethostname() or _lives(holder.pid)):
        raise SiteBusy(
            f"{holder} has this cluster for {left} s more and may be alive: end it with `pveha stop`, or, if that "
            f"machine is dead, break its lease with `pveha lease INVENTORY --break` and heal again"
        )


def _lives(pid: int) -> bool:
    """Whether that process of this machine runs, be it somebody else's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _rebuilt(declared: Inventory, site: Site, kept: Kept, by: str) -> Path:
    """A run folder made from what the nodes remember: enough of a journal to heal from."""
    folder = state_home(os.environ) / "elsewhere" / quote(declared.name, safe="").replace(".", "%2E") / kept.run
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "journal.jsonl"
    if path.exists():  # an earlier try; what the nodes remember now counts
        path.rename(path.with_name(f"journal-{site.clock.now().utc}.jsonl"))
    with Journal(path, site.clock, by=by) as journal:
        journal.write("run.open", {"run": kept.run, "site": declared.name, "simulated": declared.simulated})
        if "found" in kept.about:
            journal.write("snapshot", {"as": "found", "site": kept.about["found"]})
        for name, plan in sorted(kept.plans.items()):
            journal.write("fault.plan", {**plan, "fault": name})
    return folder
