"""What a killed run left is put right: its open faults healed, its site as it was found. Idempotent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_pveha.errors import EvidenceError, HealFailed, Interrupted, PvehaError, SiteError
from pytest_pveha.faults.catalogue import FAULTS, from_plan
from pytest_pveha.faults.fault import Danger
from pytest_pveha.faults.keeping import Keeping
from pytest_pveha.faults.restore import restore
from pytest_pveha.faults.session import heal, tell_fired
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import READ, Observer
from pytest_pveha.observe.people import People
from pytest_pveha.observe.snapshot import Snapshot
from pytest_pveha.record.journal import Journal, Line, read
from pytest_pveha.record.openings import OpenFault, OpenRuns, open_faults
from pytest_pveha.record.questions import Desk


def mend(run_dir: Path, site: Site, runs: OpenRuns, *, by: str, within: float, tell: Callable[[str], None]) -> None:
    """The run's faults are healed, the most dangerous first, the site is as it was found, nothing of the run is left
    on the nodes, and the run is no longer on the register. A fault that cannot be undone keeps no other from being,
    nor does a full disk: what cannot be written down is done all the same.

    Args:
        within: seconds the site may take until it is as it was found.
        tell: hears each step in words.

    Raises:
        HealFailed: something could not be undone, or this is another cluster; the register keeps the run.
        EvidenceError: the journal cannot be read; or all was healed, and that could not be written down.
    """
    path = run_dir / "journal.jsonl"
    with _record(path, site, by) as record:
        lines = read(path, tolerant_tail=True)
        test = next((fault.test for fault in reversed(open_faults(lines)) if fault.test), None)
        observer = Observer(site, lambda kind, data: record(kind, data, test), _once(tell))
        whole = False
        try:
            with observer.undeterred():
                _mend(observer, run_dir, lines, within=within, tell=tell)
                whole = True
        except EvidenceError as error:
            if not whole:
                raise
            raise EvidenceError(
                f"the site is as it was found, and that could not be written down ({error}); make room there, then "
                f"`pveha heal` again"
            ) from error
    runs.remove(run_dir)


@contextmanager
def _record(path: Path, site: Site, by: str) -> Iterator[Callable[[str, dict[str, Any], str | None], object]]:
    """What writes into that journal; where nothing can be written into it, what raises EvidenceError each time."""
    try:
        journal = Journal.reopen(path, site.clock, by=by)
    except EvidenceError as error:
        refused = error

        def refuse(kind: str, data: dict[str, Any], test: str | None) -> object:
            raise refused

        yield refuse
        return
    with journal:
        yield journal.write


def _mend(observer: Observer, run_dir: Path, lines: list[Line], *, within: float, tell: Callable[[str], None]) -> None:
    site = observer.site
    keeping = Keeping(site, run_id(run_dir, lines))
    observer.people = People(observer, Desk(keeping.run), keep=keeping.asked)
    _refuse_another(run_dir, site, lines)
    failed: list[Exception] = []
    for fault in by_danger(open_faults(lines)):
        tell(f"healing {fault.fault} ({fault.type} of {fault.params}), which was {fault.state}")
        try:
            heal(from_plan(fault.type, fault.params), fault.fault, observer, keeping)
        except Interrupted:
            raise
        except Exception as error:  # whatever it is: the next one is no less urgent
            tell(f"{fault.fault} is NOT healed: {_named(error)}")
            failed.append(error)
    if failed:
        raise HealFailed("; ".join(map(_named, failed))) from failed[0]
    found = _found(lines)
    if found is None:
        raise HealFailed(f"{run_dir}: its journal has no snapshot of the site as found; compare by hand")
    restore(observer, found, within)
    for name, fired in keeping.clear().items():
        tell_fired(observer.write, name, fired)
    observer.people.clear()
    observer.write("note", {"text": "the site is as it was found again"})


def _named(error: Exception) -> str:
    """What went wrong; of what is none of ours its kind, too."""
    return str(error) if isinstance(error, PvehaError) else f"{type(error).__name__}: {error}"


def _refuse_another(run_dir: Path, site: Site, lines: list[Line]) -> None:
    """Return unless this is seen to be another cluster than the run's; one that cannot be asked is healed all the same.

    Raises:
        HealFailed: it is; nothing was touched.
    """
    was = next((line.data.get("site") for line in lines if line.kind == "snapshot"), None)
    name = was.get("cluster") if isinstance(was, dict) else None
    try:
        now = site.cluster.membership(site.clock.deadline(READ)).cluster
    except SiteError:
        return
    if name and now and name != now:
        raise HealFailed(
            f"{run_dir}: that run broke cluster {name}, and this inventory reaches cluster {now}, where nothing was "
            f"touched; heal with the inventory with which it ran"
        )


def run_id(run_dir: Path, lines: list[Line]) -> str:
    """The run's id, by its journal or by its folder's name."""
    opened = next((line.data.get("run") for line in lines if line.kind == "run.open"), None)
    return str(opened or run_dir.name.rpartition("-")[2])


def by_danger(faults: list[OpenFault]) -> list[OpenFault]:
    """The faults in the order in which they are undone: the more one can cost meanwhile, the earlier; of equals the
    inner one before that in which it was made."""
    kinds = {fault.type: FAULTS.get(fault.type) for fault in faults}
    danger = {name: Danger.FILES if kind is None else kind.danger for name, kind in kinds.items()}
    return sorted(reversed(faults), key=lambda fault: danger[fault.type])


def _once(tell: Callable[[str], None]) -> Callable[[str, str], None]:
    """Tells what is waited for and what was seen, but not the same again and again."""
    told = ""

    def say(waiting_for: str, saw: str) -> None:
        nonlocal told
        text = f"{waiting_for}: {saw}" if saw else waiting_for
        if text != told:
            told = text
            tell(text)

    return say


def _found(lines: list[Line]) -> Snapshot | None:
    for line in lines:
        if line.kind == "snapshot" and line.data.get("as") == "found":
            try:
                return Snapshot.from_json(line.data["site"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise EvidenceError(f"the snapshot in the journal cannot be used: {error}") from error
    return None
