"""A run killed at any point leaves a site that heals: by the supervisor alone, or by ``pveha heal``."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import whole_run
from whole_run import ROOT, Place

from pytest_pveha.embedded import attach
from pytest_pveha.errors import SiteDirty
from pytest_pveha.handles.connect import connect
from pytest_pveha.healing import heal_site
from pytest_pveha.inventory import load
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.snapshot import Snapshot, differences, take
from pytest_pveha.readiness.checks import run_checks
from pytest_pveha.record.journal import Line, read
from pytest_pveha.record.openings import open_faults
from pytest_pveha.scenario.campaign import Campaign, Plan

SCRIPT = Path(__file__).with_name("crash_script.py")
KINDS = ("fault.plan", "fault.inject", "fault.effect", "fault.heal", "fault.healed", "fault.close")
MOMENTS = [f"{Random(seed).uniform(0, 170):.3f}" for seed in (1, 2, 3)]
"""Seconds after the effect, seeded: before the fence is asked for, and while the guests come back elsewhere."""
WAYS = ("supervisor", "heal")
TABLE = [
    # after one line by the one healer, right before it (right after the act that it tells of) by the other
    *(("after", kind, WAYS[at % 2]) for at, kind in enumerate(KINDS)),
    *(("before", kind, WAYS[(at + 1) % 2]) for at, kind in enumerate(KINDS)),
    ("at", MOMENTS[0], "supervisor"),
    *(pytest.param("after", kind, WAYS[(at + 1) % 2], marks=pytest.mark.proof) for at, kind in enumerate(KINDS)),
    *(pytest.param("before", kind, WAYS[at % 2], marks=pytest.mark.proof) for at, kind in enumerate(KINDS)),
    *(pytest.param("at", moment, way, marks=pytest.mark.proof) for moment in MOMENTS[1:] for way in WAYS),
]
REAL = 120
"""Real seconds after which a process is no longer waited for: it hangs. No result depends on it."""
BOOTED = 60.0
"""Site seconds after which every started guest's application must answer (its boot takes 20)."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A user's own corner, for this process and those it starts."""
    with whole_run.place() as place:
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, place.environment[name])
        yield place


# --- killing ---------------------------------------------------------------------------------------------------------


def killed(here: Place, inventory: Path, when: str, what: str, watched: str) -> Path:
    """The folder of a run that killed itself there."""
    typed = [sys.executable, str(SCRIPT), str(inventory), str(here.reports), when, what, watched]
    done = subprocess.run(typed, env=here.environment, capture_output=True, text=True, timeout=REAL, check=False)
    assert done.returncode == -signal.SIGKILL, f"it was not killed at {when} {what}:\n{done.stderr}"
    (journal,) = here.reports.rglob("journal.jsonl")
    return journal.parent


def supervisor_of(run: Path) -> int | None:
    """The process that watches over that run."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"pytest_pveha.supervisor" in words and os.fsencode(run.resolve()) in words:
                return int(entry.name)
    return None


def wait_for_supervisor(run: Path) -> None:
    """The supervisor has done its work; it may have ended already."""
    process = supervisor_of(run)
    if process is None:
        return
    try:
        ended = os.pidfd_open(process)
    except ProcessLookupError:
        return
    try:
        assert select.select([ended], [], [], REAL)[0], f"the supervisor hangs: {log_of(run)}"
    finally:
        os.close(ended)


def log_of(run: Path) -> str:
    """What the supervisor said."""
    return (run / "raw" / "supervisor.log").read_text()


# --- looking ---------------------------------------------------------------------------------------------------------


@contextmanager
def looking(inventory: Path) -> Iterator[Observer]:
    """Eyes of our own on the site as it lies there."""
    embedded = attach(load(inventory))
    assert embedded is not None, "the simulated site did not outlive the killed run"
    clock = embedded.clock("looking")
    site = connect(embedded.inventory, clock)
    try:
        yield Observer(site, lambda kind, data: None)
    finally:
        site.close()
        clock.close()


def snapshot(lines: list[Line]) -> Snapshot:
    """The site as the killed run found it."""
    return Snapshot.from_json(next(line.data["site"] for line in lines if line.kind == "snapshot"))


def assert_healthy(here: Place, inventory: Path, run: Path) -> None:
    """By the site's own answers, by the truth, and by the record nothing is left of the fault."""
    lines = read(run / "journal.jsonl")
    assert open_faults(lines) == []
    assert here.open_runs() == []
    with looking(inventory) as observer:
        observer.site.clock.sleep(BOOTED)
        assert [finding.to_json() for finding in run_checks(observer) if finding.answer.verdict != "yes"] == []
        assert differences(snapshot(lines), take(observer)) == []
    assert trouble(here.truth, snapshot(lines)) == []


def trouble(truth: list[dict[str, Any]], found: Snapshot) -> list[str]:
    """What is not as it was found, by the site's own record of what really happened."""
    power, alive = dict.fromkeys(found.nodes, True), dict.fromkeys(found.nodes, True)
    places = {int(sid.partition(":")[2]): [where.partition("@")[2]] for sid, where in found.guests.items()}
    homes = {vmid: list(where) for vmid, where in places.items()}
    silent: set[int] = set()
    for event in truth:
        kind, node, vmid = event["kind"], event.get("node"), event.get("vmid", 0)
        if kind in ("power_on", "power_off"):
            power[node] = kind == "power_on"
        elif kind in ("booted", "dead"):
            alive[node] = kind == "booted"
        elif kind == "guest_process_start":
            places[vmid].append(node)
        elif kind == "guest_process_stop":
            places[vmid].remove(node)
        elif kind == "guest_migrated":
            places[vmid].remove(event["from"])
            places[vmid].append(node)
        elif kind == "guest_silent":
            silent.add(vmid)
        elif kind == "guest_answers":
            silent.discard(vmid)
    return [
        *(f"{node} has no power" for node, on in power.items() if not on),
        *(f"{node} is dead" for node, up in alive.items() if not up),
        *(f"{vmid} runs on {places[vmid]}, not on {homes[vmid]}" for vmid in places if places[vmid] != homes[vmid]),
        *(f"{vmid} does not answer" for vmid in sorted(silent)),
    ]


# --- the table -------------------------------------------------------------------------------------------------------


def refused(inventory: Path, reports: Path) -> None:
    """The next run is refused, with what to type."""
    with pytest.raises(SiteDirty, match=r"not healed.*pveha heal --inventory"):
        Campaign(load(inventory), reports, lambda waiting_for, saw: None).open(Plan("all", []))


def by_supervisor(here: Place, inventory: Path, when: str, what: str) -> Path:
    """Killed, and healed by nobody but the supervisor."""
    run = killed(here, inventory, when, what, "supervised")
    wait_for_supervisor(run)
    assert "healed, the site is as it was found" in log_of(run)
    return run


def by_heal(here: Place, inventory: Path, when: str, what: str) -> Path:
    """Killed together with its supervisor, found by the next run, and healed by ``pveha heal``."""
    run = killed(here, inventory, when, what, "alone")
    refused(inventory, here.reports)
    told: list[str] = []
    assert heal_site(inventory, by="pveha heal", tell=told.append) == 1
    assert told[-1] == f"{run}: healed, the site is as it was found"
    return run


HEALERS: dict[str, Callable[[Place, Path, str, str], Path]] = {"supervisor": by_supervisor, "heal": by_heal}


@pytest.mark.parametrize(("when", "what", "way"), TABLE, ids=lambda value: value)
def test_a_run_killed_anywhere_is_healed(here: Place, when: str, what: str, way: str) -> None:
    """Killed right before or after any control line, or at some moment of the outage, the site is healthy again."""
    inventory = here.inventory()
    run = HEALERS[way](here, inventory, when, what)
    kinds = [line.kind for line in read(run / "journal.jsonl") if "by" not in line.data]
    if when != "at":
        assert (what in kinds) is (when == "after"), "it was killed somewhere else"
    else:
        assert kinds[-1] != "fault.heal"
    assert_healthy(here, inventory, run)


def test_an_outage_is_seen_as_one_before_it_is_healed(here: Place) -> None:
    """The eyes of these tests can see an unhealthy site: otherwise they would prove nothing."""
    inventory = here.inventory()
    run = killed(here, inventory, "after", "fault.effect", "alone")
    lines = read(run / "journal.jsonl")
    assert trouble(here.truth, snapshot(lines)) != []
    with looking(inventory) as observer:
        assert differences(snapshot(lines), take(observer)) != []
    with pytest.raises(AssertionError):
        assert_healthy(here, inventory, run)


def test_pytest_killed_in_the_outage_is_healed_and_followed(here: Place) -> None:
    """A whole pytest run is killed by kill -9 in its outage; the supervisor heals, and the next run is accepted."""
    inventory = here.inventory()
    words = ("-k", "other")
    process = subprocess.Popen(
        whole_run.command(inventory, here, *words),
        env=here.environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        journal = wait_for_line(here, "fault.effect", process)
    finally:
        process.kill()
        process.wait()
    wait_for_supervisor(journal.parent)
    assert "healed, the site is as it was found" in log_of(journal.parent)
    assert_healthy(here, inventory, journal.parent)
    following = whole_run.run(inventory, here, *words)
    assert (following.exit_code, following.verdict["verdict"]) == (0, "accepted (partial, simulated)"), following.output


def wait_for_line(here: Place, kind: str, writer: subprocess.Popen[bytes]) -> Path:
    """The journal in which a line of that kind has come. Its writer's end is the only other way out."""
    while True:
        ended = writer.poll() is not None
        for journal in here.reports.rglob("journal.jsonl"):
            if f'"kind":"{kind}"'.encode() in journal.read_bytes():
                assert not ended, "the run was over before it could be killed"
                return journal
        assert not ended, "the run ended without that line"
        select.select([], [], [], 0.02)
