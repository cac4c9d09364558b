"""The crash matrix: however a run ends in the middle of whatever fault, its site is healthy again.

Every fault × every control line × every way to be struck. The healer is the run itself, its supervisor, the nodes'
dead-men, or ``pveha heal``; the table says which, and after how long. ``make test`` plays kill -9 after each line of
each fault; ``make proof`` plays the whole table; STRIKES=K/N plays every N-th case from the K-th on.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import whole_run
from stretched_site import BLOCKS
from stretched_site import PLAYED as STRETCHED
from warm_start import run_pytest
from whole_run import ROOT, Place

from pytest_pveha.clock import SECOND
from pytest_pveha.embedded import attach, runtime_directory
from pytest_pveha.errors import EvidenceError
from pytest_pveha.faults import mend
from pytest_pveha.faults.catalogue import FAULTS
from pytest_pveha.faults.keeping import STORE
from pytest_pveha.handles.cluster_lease import lease_holder
from pytest_pveha.handles.connect import connect
from pytest_pveha.healing import heal_site
from pytest_pveha.inventory import load
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.snapshot import Snapshot, differences, take
from pytest_pveha.readiness.checks import run_checks
from pytest_pveha.record.journal import Line, read
from pytest_pveha.record.openings import open_faults
from pytest_pveha.simclock import plug_controller
from pytest_pveha.wire import ipmi
from tests.storage_sites import NFS, STORAGES

HERE = Path(__file__).parent
SUITE = HERE / "struck_suite.py"
LINES = ("fault.plan", "fault.arm", "fault.inject", "fault.effect", "fault.heal", "fault.healed", "fault.close")
WAYS = ("kill", "kill-both", "abandoned", "sigterm", "ctrl-c", "exception", "disk-full", "unplugged")
OF_CEPH = ("osd-killed", "osd-lost", "ceph-network-cut", "noout")
PLAYED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "link-loss": ({}, {"links": 2}),
    "bond-member-loss": ({}, {"bonds": {"bond0": {"members": ["eno3", "eno4"], "carries": ["guest"]}}}),
    "cord-pulled": ({}, {"operator": {}}),
    "mains-cut": ({}, {"pdus": True}),
    **dict.fromkeys(OF_CEPH, ({"ceph": {}}, {"ceph": {"down_out": "20 s"}})),
    "guest-restored": ({"backup": {"storage": "pbs1", "restore": {"ids": [9000, 9009], "storage": "local-lvm"}}}, {}),
    "qdevice-loss": ({"quorum_device": {"host": "10.99.9.9", "algorithm": "lms"}}, {}),
    **dict.fromkeys(("room-power-cut", "feed-cut", "room-cut", "switch-loss", "switch-pulled"), (BLOCKS, STRETCHED)),
    "storage-cut": (STORAGES, NFS),
}
"""What the site of a fault must have: blocks of the inventory, and keys of its simulator."""
BY_HAND = ("cord-pulled", "switch-pulled")
"""No node can undo it: without us and the supervisor the victim stays off."""
ASKED = {"cord-pulled": ("ask/pull", "ask/plug"), "switch-pulled": ("ask/take", "ask/back")}
"""Lines besides, at which a person may be on the way to do what the run that is struck has asked."""
REAL = 240
"""Real seconds after which a process is no longer waited for: it hangs. No result depends on it."""
BOOTED = 60.0
"""Site seconds after which every started guest's application must answer (its boot takes 20)."""
DEAD_MEN = 900.0
"""Site seconds after which nothing may be broken any more though nobody came: three minutes, a boot, and HA's own."""


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    fault: str
    when: str
    line: str
    way: str

    def __str__(self) -> str:
        return f"{self.fault}-{self.when}-{self.line}-{self.way}"

    @property
    def test(self) -> str:
        """The test that is struck."""
        return f"{SUITE}::test_{self.fault.replace('-', '_')}"

    @property
    def of(self) -> str:
        """The name of the fault whose line it is; empty for the first."""
        return ""


def matrix() -> list[Case]:
    """Every cell: after each line, and for a kill also right before it, when the act is done and not yet on record."""
    found = []
    for fault in sorted(kind.kind for kind in FAULTS.values()):
        for line in (*LINES, *ASKED.get(fault, ())):
            for way in WAYS:
                if fault in BY_HAND and way in ("abandoned", "unplugged"):
                    continue
                if way == "exception" and line != "fault.effect":
                    continue  # a test's own code runs between the effect and the heal only
                found.append(Case(fault, "after", line, way))
                if way in ("kill", "kill-both"):
                    found.append(Case(fault, "before", line, way))
    return found


def quick(cell: Case) -> bool:
    """Whether the cell is part of every test run: a kill after a line; a bug in one test of each kind of undo."""
    if cell.way == "exception":
        return cell.fault in ("power-cut", "partition", "service-stopped", "maintenance")
    return cell.way == "kill" and cell.when == "after"


def chosen() -> list[Any]:
    """The cells with their marks."""
    part, _, of = os.environ.get("STRIKES", "").partition("/")
    cells = matrix()
    if part:
        return [pytest.param(cell, id=str(cell)) for cell in cells[int(part) % int(of) :: int(of)]]
    return [pytest.param(cell, id=str(cell), marks=() if quick(cell) else pytest.mark.proof) for cell in cells]


@pytest.fixture(scope="module", autouse=True)
def pyghmi_stays_loaded() -> Iterator[None]:
    """Whoever looks after the blow asks BMCs too: what forks helpers for it is started once, not per look."""
    ipmi._nursery.enter()
    yield
    ipmi._nursery.leave()


# --- striking --------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A user's own corner, for this process and those it starts."""
    with whole_run.place() as place:
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, place.environment[name])
        yield place


@dataclass(frozen=True)
class Struck:
    """A run after its blow."""

    folder: Path
    at: int
    """When it was struck (site mono ns)."""
    code: int
    output: str

    @property
    def lines(self) -> list[Line]:
        """Its journal, as far as it goes."""
        return read(self.folder / "journal.jsonl", tolerant_tail=True)

    @property
    def found(self) -> Snapshot:
        """The site as the run found it."""
        return Snapshot.from_json(next(line.data["site"] for line in self.lines if line.kind == "snapshot"))


def struck(here: Place, inventory: Path, case: Case, **more: str) -> Struck:
    """That run's end; the site that it started runs on. ``more`` is in its environment."""
    mark = here.folder / "struck"
    environment = {
        **here.environment,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE))),
        "STRIKE": f"{case.when} {case.line}",
        "STRIKE_BY": case.way,
        "STRIKE_FAULT": case.of,
        "STRUCK": str(mark),
        "SITE_BATON": str(runtime_directory(load(inventory)) / "baton"),
        **more,
    }
    typed = [*whole_run.typed(inventory, here)[:-1], case.test, "-p", "striking", "-p", "site_stays"]
    done = run_pytest(typed, env=environment, cwd=ROOT)
    assert mark.exists(), f"it was never struck:\n{done.output}"
    (journal,) = here.reports.rglob("journal.jsonl")
    return Struck(journal.parent, int(mark.read_text()), done.returncode, done.output)


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


def supervisor_of(run: Path) -> int | None:
    """The process that watches over that run: what it says goes into the run's folder."""
    log = run.resolve() / "raw" / "supervisor.log"
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "fd" / "1").readlink() == log:
                return int(entry.name)
    return None


def log_of(run: Path) -> str:
    """What the supervisor said."""
    return (run / "raw" / "supervisor.log").read_text()


# --- looking ---------------------------------------------------------------------------------------------------------


@contextmanager
def looking(inventory: Path) -> Iterator[Observer]:
    """Eyes of our own on the site as it lies there."""
    embedded = attach(load(inventory))
    assert embedded is not None, "the simulated site did not outlive the run"
    clock = embedded.clock("looking")
    site = connect(embedded.inventory, clock)
    try:
        yield Observer(site, lambda kind, data: None)
    finally:
        site.close()
        clock.close()


def left_on(observer: Observer) -> list[str]:
    """What a run has left on the nodes: files, units, rules, the lease."""
    site, found = observer.site, []
    for node in site.nodes:
        deadline = site.clock.deadline(60)
        found += [f"{node.name}: {STORE}/{name}" for name in node.disk.names(STORE, deadline)]
        found += [f"{node.name}: {unit}" for unit in node.units.listed("pveha-*", deadline)]
        tables = node.command(deadline, "nft", "list", "tables").splitlines()
        found += [f"{node.name}: {table}" for table in tables if "pveha" in table]
    holder = lease_holder(site.nodes, site.clock)
    return [*found, *([f"the lease of {holder}"] if holder is not None else [])]


def assert_healthy(here: Place, inventory: Path, run: Struck, *, recorded: bool = True) -> None:
    """By the site's own answers, by the truth, and by the record nothing is left of the fault."""
    if recorded:
        assert open_faults(run.lines) == []
    assert here.open_runs() == []
    with looking(inventory) as observer:
        observer.site.clock.sleep(BOOTED)
        assert [finding.to_json() for finding in run_checks(observer) if finding.answer.verdict != "yes"] == []
        assert differences(run.found, take(observer)) == []
        assert left_on(observer) == []
    assert trouble(here.truth, run.found) == []


def trouble(truth: list[dict[str, Any]], found: Snapshot, *, placed: bool = True) -> list[str]:
    """What is not as it was found, by the site's own record of what really happened.

    Args:
        placed: whether each guest must be where it was; else that it runs once is enough.
    """
    power, alive = dict.fromkeys(found.nodes, True), dict.fromkeys(found.nodes, True)
    places = {int(sid.partition(":")[2]): [where.partition("@")[2]] for sid, where in found.guests.items()}
    homes = {vmid: list(where) for vmid, where in places.items()}
    silent: set[int] = set()
    copies: set[int] = set()
    members: list[int] = []
    for event in truth:
        kind, node, vmid = event["kind"], event.get("node"), event.get("vmid", 0)
        if kind == "restore_begins":
            copies.add(vmid)
        elif kind == "guest_destroyed":
            copies.discard(vmid)
        if vmid and vmid not in places:  # a copy, which is there or is not
            continue
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
        elif kind == "membership":
            members = event["members"]
    return [
        *(f"{osd} is {what}" for osd, what in _osds(truth).items() if what),
        *(f"{node} has no power" for node, on in power.items() if not on),
        *(f"{node} is dead" for node, up in alive.items() if not up),
        *([f"only {members} are members"] if members and len(members) < len(power) else []),
        *(
            f"{vmid} runs on {places[vmid]}, not on {homes[vmid]}"
            for vmid in places
            if (places[vmid] != homes[vmid] if placed else len(places[vmid]) != 1)
        ),
        *(f"{vmid} does not answer" for vmid in sorted(silent)),
        *(f"the copy {vmid} is there" for vmid in sorted(copies)),
    ]


def _osds(truth: list[dict[str, Any]]) -> dict[str, str]:
    """What is not as it was of Ceph: OSDs that are down or out, flags that are set, networks that are cut."""
    found: dict[str, str] = {}
    for event in truth:
        kind = event["kind"]
        if kind in ("osd_down", "osd_up"):
            found[f"osd.{event['osd']}"] = "down" if kind == "osd_down" else ""
        elif kind in ("osd_out", "osd_in"):
            found[f"the place of osd.{event['osd']}"] = "out" if kind == "osd_out" else ""
        elif kind == "ceph_flag":
            found[event["flag"]] = "set" if event["set"] else ""
        elif kind == "ceph_link":
            found[f"{event['node']}'s {event['network']} network"] = "" if event["up"] else "down"
    return found


def without_migrations(truth: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same without the pause that a live migration ends with: nobody but who counts milliseconds misses it."""
    left = []
    for number, event in enumerate(truth):
        if event["kind"] == "guest_silent":
            following = (later["kind"] for later in truth[number + 1 :] if later.get("vmid") == event["vmid"])
            if next(following, "") == "guest_migrated":
                continue
        left.append(event)
    return left


def undone_after(truth: list[dict[str, Any]], run: Struck, found: Snapshot) -> float:
    """Site seconds from the blow until nothing was broken any more, for good; 0 where nothing was.

    A guest that HA took elsewhere runs: when somebody brings it home does not count.
    """
    truth = without_migrations(truth)
    bad = [
        number
        for number, event in enumerate(truth)
        if event["at"] >= run.at and trouble(truth[: number + 1], found, placed=False)
    ]
    if not bad:
        return 0.0
    assert bad[-1] + 1 < len(truth), "it ended broken"
    return float(truth[bad[-1] + 1]["at"] - run.at) / SECOND


# --- the matrix ------------------------------------------------------------------------------------------------------


def healed_by(here: Place, inventory: Path, case: Case, run: Struck) -> str:
    """Who healed: asserted, not assumed."""
    match case.way:
        case "kill":
            assert run.code == -signal.SIGKILL
            wait_for_supervisor(run.folder)
            assert "healed, the site is as it was found" in log_of(run.folder)
            return "supervisor"
        case "kill-both":
            assert run.code == -signal.SIGKILL
            assert by_hand(inventory) == 1
            return "pveha heal"
        case "abandoned" | "unplugged":
            with looking_from(case, inventory) as observer:
                observer.site.clock.sleep(DEAD_MEN)
            assert trouble(here.truth, run.found, placed=False) == []
            assert by_hand(inventory) in (0, 1)
            return "dead-man"
        case "disk-full":
            assert by_hand(inventory) in (0, 1)
            return "the run"
    return "the run"


@contextmanager
def looking_from(case: Case, inventory: Path) -> Iterator[Observer]:
    """Eyes on the site; a controller without network is plugged in again when the nodes have done what they do."""
    with looking(inventory) as observer:
        yield observer
        if case.way == "unplugged":
            embedded = attach(load(inventory))
            assert embedded is not None
            plug_controller(embedded.runtime / "baton")


def by_hand(inventory: Path) -> int:
    """How many runs ``pveha heal`` healed."""
    return heal_site(inventory, by="pveha heal", tell=lambda text: None)


@pytest.mark.parametrize("case", chosen())
def test_a_run_struck_anywhere_leaves_a_healthy_site(here: Place, case: Case) -> None:
    """Whatever struck it, wherever: in the end the site is as it was found, and nothing of ours is left there."""
    blocks, played = PLAYED.get(case.fault, ({}, {}))
    inventory = here.inventory(blocks, **played)
    run = struck(here, inventory, case)
    healer = healed_by(here, inventory, case, run)
    assert_healthy(here, inventory, run, recorded=case.way != "disk-full")
    seconds = undone_after(here.truth, run, run.found)  # by now guests that had to boot answer
    if table := os.environ.get("CRASH_TABLE"):
        row = {"fault": case.fault, "line": f"{case.when} {case.line}", "way": case.way, "by": healer}
        with Path(table).open("a") as file:
            file.write(json.dumps({**row, "seconds": round(seconds, 1)}) + "\n")


def test_an_outage_is_seen_as_one_before_it_is_healed(here: Place) -> None:
    """The eyes of these tests can see an unhealthy site: otherwise they would prove nothing."""
    inventory = here.inventory()
    run = struck(here, inventory, Case("power-cut", "after", "fault.effect", "kill-both"))
    assert trouble(here.truth, run.found) != []
    with looking(inventory) as observer:
        assert differences(run.found, take(observer)) != []
    with pytest.raises(AssertionError):
        assert_healthy(here, inventory, run)


def test_an_inventory_that_is_edited_meanwhile_is_healed_as_it_was(here: Place) -> None:
    """The supervisor reads it when it is started: what somebody makes of the file later keeps nothing broken."""
    inventory = here.inventory()
    text = inventory.read_text()
    case = Case("power-cut", "after", "fault.effect", "kill")
    run = struck(here, inventory, case, STRIKE_SPOILS=str(inventory))
    wait_for_supervisor(run.folder)
    inventory.write_text(text)
    assert healed_by(here, inventory, case, run) == "supervisor"
    assert_healthy(here, inventory, run)


def test_bringing_a_guest_home_is_no_outage() -> None:
    """What is counted ends when guests answer again, wherever; a silence that no live migration explains counts."""
    found = Snapshot.from_json(
        {"cluster": "c", "quorate": True, "nodes": {"a": "online", "b": "online"}, "boot_ids": {}}
        | {"services": {}, "guests": {"vm:1": "running@a"}}
    )
    run = Struck(Path(), 0, 0, "")
    happened = [
        {"at": 1, "kind": "guest_process_stop", "node": "a", "vmid": 1},
        {"at": 1, "kind": "guest_silent", "node": "a", "vmid": 1},
        {"at": 2, "kind": "guest_process_start", "node": "b", "vmid": 1},
        {"at": 3, "kind": "guest_answers", "node": "b", "vmid": 1},
    ]
    home = [
        {"at": 7, "kind": "guest_silent", "node": "b", "vmid": 1},
        {"at": 8, "kind": "guest_migrated", "node": "a", "from": "b", "vmid": 1},
        {"at": 8, "kind": "guest_answers", "node": "a", "vmid": 1},
    ]
    assert undone_after(seconds(happened), run, found) == 3
    assert undone_after(seconds([*happened, *home]), run, found) == 3
    hung = [{**home[0], "at": 4}, {"at": 6, "kind": "guest_answers", "node": "b", "vmid": 1}]
    assert undone_after(seconds([*happened, *hung, *home]), run, found) == 6


def seconds(truth: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with its moments in nanoseconds."""
    return [{**event, "at": event["at"] * SECOND} for event in truth]


def test_a_full_disk_keeps_no_heal_from_being(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a line, and no room to set that line aside: it is healed, and said to be unrecorded."""
    inventory = here.inventory()
    run = struck(here, inventory, Case("power-cut", "after", "fault.effect", "kill-both"))
    with (run.folder / "journal.jsonl").open("ab") as file:
        file.write(b'{"torn')
    opening = os.open

    def full(path: Any, flags: int, *rest: Any, **how: Any) -> int:
        if flags & os.O_CREAT and run.folder in Path(path).parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opening(path, flags, *rest, **how)

    def unseen(*_: Any) -> None:
        raise EvidenceError("what it was like cannot be read")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full)
        with monkeypatch.context() as worse:
            worse.setattr(mend, "restore", unseen)
            with pytest.raises(EvidenceError, match=r"^what it was like cannot be read$"):
                by_hand(inventory)  # not all was done: nobody is told that it was
        with pytest.raises(EvidenceError, match=r"as it was found, and that could not be written down .*No space left"):
            by_hand(inventory)
    assert trouble(here.truth, run.found, placed=False) == []
    assert by_hand(inventory) == 1
    assert_healthy(here, inventory, run)


def test_the_next_run_is_refused_until_it_is_healed(here: Place) -> None:
    """On this machine by the register, elsewhere by what the nodes remember; healed from elsewhere it goes on."""
    inventory = here.inventory()
    struck(here, inventory, Case("power-cut", "after", "fault.effect", "kill-both"))
    refused = subprocess.run(
        whole_run.command(inventory, here), env=here.environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 4
    assert "pveha heal --inventory" in refused.stdout + refused.stderr
    for entry in here.open_runs():
        entry.unlink()  # another machine knows nothing of it
    environment = {**here.environment, "PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE)))}
    typed = whole_run.command(inventory, here, "-k", "other", "-p", "site_stays")
    elsewhere = subprocess.run(typed, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert elsewhere.returncode == 6
    assert "this cluster is held by run" in elsewhere.stdout
    assert by_hand(inventory) == 1
    following = whole_run.run(inventory, here, "-k", "other", suites=ROOT / "suites" / "nodes" / "test_power_loss.py")
    assert (following.exit_code, following.verdict["verdict"]) == (0, "accepted (partial, simulated)"), following.output


if __name__ == "__main__":
    sys.stdout.write("\n".join(map(str, matrix())) + "\n")
