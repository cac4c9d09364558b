"""The dead-man on the real systemd, as on the simulated one: armed, seen armed, fires alone, is disarmed for good."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dead_man_then_death
import pytest
import whole_run
from container import RELEASES, Container
from dead_man_then_death import UNDONE

from pytest_pveha.clock import SECOND, Deadline, LiveClock
from pytest_pveha.embedded import start
from pytest_pveha.errors import PreflightRefused, SiteError
from pytest_pveha.faults.fault import DeadMan, Undo
from pytest_pveha.faults.keeping import Keeping, remembered
from pytest_pveha.handles import leftovers
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.node import Node
from pytest_pveha.handles.shell import into, quote
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load

pytestmark = pytest.mark.daemons

RUN, FAULT = "4312a98e", "partition-1"
TAG = f"pveha-{RUN}-{FAULT}"
SOON = 2.0
"""Seconds after which a dead-man acts here."""
AMPLE = 60.0
LATE = 10.0
"""Seconds that a busy machine may need to start a shell once a timer has elapsed."""


@dataclass
class Place:
    """A site, and its node pve1, which can lose its power."""

    site: Site
    power_cycle: Callable[[], None]

    @property
    def node(self) -> Node:
        return self.site.nodes["pve1"]

    @property
    def keeping(self) -> Keeping:
        """Our run's things there, as a process sees them that remembers nothing."""
        return Keeping(self.site, RUN)

    def deadline(self) -> Deadline:
        return self.site.clock.deadline(AMPLE)

    def pause(self, seconds: float) -> None:
        self.site.clock.sleep(seconds)

    def moment(self) -> float:
        """Now, by the clock that durations are taken from."""
        return self.site.clock.now().mono / SECOND

    def comes(self, seen: Callable[[], bool], within: float) -> bool:
        """Whether that is seen by then."""
        deadline = self.site.clock.deadline(within)
        while not (there := seen()) and not deadline.expired():
            self.pause(0.2)
        return there

    def undone(self) -> bool:
        """Whether the dead-man has acted."""
        return "undone" in self.node.disk.names("/var/lib", self.deadline())

    def standing(self) -> frozenset[str]:
        """The units of ours that are loaded."""
        units = leftovers.read(self.node, self.deadline()).ours[leftovers.UNIT]
        assert units is not None
        return units


@pytest.fixture(params=[*RELEASES, "simulated"], ids=[*RELEASES.values(), "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The real machine of that release, or the simulated site."""
    if request.param == "simulated":
        yield from _simulated(monkeypatch)
    else:
        yield from _real(Container(tmp_path / "machine", "pve1", request.param))


def _real(machine: Container) -> Iterator[Place]:
    site = connect(load(machine.inventory()), LiveClock())

    def power_cycle() -> None:
        machine.cut_power()
        machine.start()

    machine.start()
    try:
        yield Place(site, power_cycle)
    finally:
        site.close()
        machine.cut_power()


def _simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with whole_run.place() as here, outlived_by_nothing(here.folder):
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, here.environment[name])
        embedded = start(load(here.inventory(boot_seconds=20)))
        clock = embedded.clock()
        site = connect(embedded.inventory, clock)
        place = Place(site, lambda: None)

        def power_cycle() -> None:
            bmc = place.node.bmc
            assert bmc is not None
            before = place.node.boot_id(place.deadline())
            bmc.set_power("cycle", place.deadline())
            assert place.comes(lambda: _another_boot(place, before), within=300)

        place.power_cycle = power_cycle
        try:
            yield place
        finally:
            site.close()
            clock.close()


_UNDERTAKER = """
read -r _
for site in "$1"/run/*/*/site.json; do kill "$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p' "$site")"; done
rm -rf "$1"
"""


@contextmanager
def outlived_by_nothing(folder: Path) -> Iterator[None]:
    """Should we be killed meanwhile, a simulated site in that folder, which would live on, and the folder are gone."""
    words = ["sh", "-c", _UNDERTAKER, "sh", str(folder)]
    null = subprocess.DEVNULL
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=null, stderr=null, start_new_session=True) as waiting:
        yield
        waiting.kill()


def _another_boot(place: Place, before: str) -> bool:
    try:
        return place.node.boot_id(place.site.clock.deadline(5)) != before
    except SiteError:
        return False


def undo(*, outlives_reboot: bool = False, **more: str) -> DeadMan:
    """A dead-man on pve1 that says when it has acted."""
    script = (into(quote("echo", "undone"), UNDONE),)
    return DeadMan.on_every(Undo("pve1", script, outlives_reboot=outlives_reboot, **more))


@pytest.mark.parametrize("outlives_reboot", [False, True])
def test_it_fires_in_time_and_once(place: Place, outlives_reboot: bool) -> None:
    """Armed it waits, at its time it acts and says so, and nothing is left when the run's things are cleared away."""
    begun = place.moment()
    armed = place.keeping.arm(FAULT, undo(outlives_reboot=outlives_reboot), SOON)
    ended = place.moment()
    assert (armed.nodes, armed.seconds, armed.outlives_reboot) == (("pve1",), SOON, outlives_reboot)
    assert place.node.units.active(f"{TAG}.timer", place.deadline())
    timers = place.node.command(place.deadline(), "systemctl", "list-timers", "--all", "--no-legend", f"{TAG}*")
    assert timers.split()[-2:] == [f"{TAG}.timer", f"{TAG}.service"]
    assert not place.undone()
    assert place.comes(place.undone, within=SOON + LATE)
    place.node.disk.remove(place.deadline(), UNDONE)
    place.pause(SOON + 1)
    assert not place.undone()
    low, high = acted_between(place)
    assert begun + SOON <= high
    assert low <= ended + 1 + SOON + LATE
    nothing_left(place)


@pytest.mark.parametrize("outlives_reboot", [False, True])
def test_disarmed_it_never_fires(place: Place, outlives_reboot: bool) -> None:
    """After a success nothing waits any more, not even after a restart; to disarm again does no harm."""
    keeping = place.keeping
    keeping.arm(FAULT, undo(outlives_reboot=outlives_reboot), SOON)
    assert keeping.disarm(FAULT) == []
    nothing_left(place)
    assert keeping.disarm(FAULT) == []
    place.pause(SOON + 1)
    assert not place.undone()
    place.power_cycle()
    nothing_left(place)
    place.pause(SOON + 1)
    assert not place.undone()


def test_one_that_outlives_a_restart_counts_anew(place: Place) -> None:
    """After a power cut it is armed again, waits its whole time, acts, and can be cleared away."""
    wait = 3 * SOON
    place.keeping.arm(FAULT, undo(outlives_reboot=True), wait)
    place.pause(SOON)
    place.power_cycle()
    up = place.moment()
    assert place.node.units.active(f"{TAG}.timer", place.deadline())
    assert place.comes(place.undone, within=wait + LATE)
    _, high = acted_between(place)
    assert high >= up - 30 + wait  # by the timer's start, at the boot's end
    nothing_left(place)
    place.power_cycle()
    nothing_left(place)


def test_one_that_does_not_outlive_a_restart_is_gone(place: Place) -> None:
    """After a power cut nobody waits: a fault that outlives one needs the other kind."""
    wait = 5 * SOON  # longer than the machine takes to fall
    place.keeping.arm(FAULT, undo(), wait)
    place.power_cycle()
    assert not place.node.units.active(f"{TAG}.timer", place.deadline())
    place.pause(wait + 1)
    assert not place.undone()
    assert place.keeping.clear() == {}
    nothing_left(place)


def test_a_second_one_of_the_same_name_is_refused(place: Place) -> None:
    """Who arms twice is told, and the first one still acts."""
    place.keeping.arm(FAULT, undo(), SOON)
    with pytest.raises(PreflightRefused, match="Unit"):
        place.keeping.arm(FAULT, undo(), 100 * SOON)
    assert place.comes(place.undone, within=SOON + LATE)


@pytest.mark.parametrize("outlives_reboot", [False, True])
def test_one_that_fails_leaves_nothing_either(place: Place, outlives_reboot: bool) -> None:
    """A script that ends badly has fired, and its failed unit is gone once it is disarmed."""
    bad = DeadMan.on_every(Undo("pve1", (quote("false"), quote("exit", "3")), outlives_reboot=outlives_reboot))
    place.keeping.arm(FAULT, bad, SOON)
    assert place.comes(lambda: has_fired(place), within=SOON + LATE)
    place.pause(0.5)
    assert [fired.node for fired in place.keeping.disarm(FAULT)] == ["pve1"]
    nothing_left(place)


def test_its_secret_is_for_root_alone(place: Place) -> None:
    """What the script needs to know lies beside it, readable by nobody else, and goes with it."""
    place.keeping.arm(FAULT, undo(secret="s3cret\n"), 100 * SOON)
    kept = f"{place.keeping.kept(FAULT)}.secret"
    assert place.node.command(place.deadline(), "stat", "-c", "%a", kept) == "600\n"
    assert place.node.disk.read(kept, place.deadline()) == "s3cret\n"
    place.keeping.disarm(FAULT)
    nothing_left(place)


def test_it_is_not_armed_where_it_could_not_act(place: Place) -> None:
    """A node on which the script's own question fails is none to rely on."""
    unable = DeadMan.on_every(Undo("pve1", (quote("true"),), checks=((("cat", "/no/such/tool"),),)))
    with pytest.raises(PreflightRefused, match="no dead-man would undo"):
        place.keeping.arm(FAULT, unable, SOON)
    assert not place.node.units.active(f"{TAG}.timer", place.deadline())


# --- the real machine alone -------------------------------------------------------------------------------------------


@pytest.fixture(params=RELEASES, ids=RELEASES.values())
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Container]:
    """A machine that is up."""
    machine = Container(tmp_path / "machine", "pve1", request.param)
    machine.start()
    yield machine
    machine.cut_power()


def test_it_fires_after_our_death(machine: Container) -> None:
    """The process that armed it was killed; the node acts alone, and whoever comes next finds what was open."""
    words = [sys.executable, dead_man_then_death.__file__, str(machine.inventory()), RUN, FAULT, str(SOON)]
    died = subprocess.run(words, capture_output=True, text=True, timeout=AMPLE, check=False)
    assert (died.stdout, died.returncode) == ("armed\n", -9), died.stderr
    place = Place(connect(load(machine.inventory()), LiveClock()), lambda: None)
    assert place.comes(place.undone, within=SOON + LATE)
    assert machine.file(UNDONE).read_text() == "undone\n"
    (kept,) = remembered(place.site).values()
    assert (kept.run, kept.about, set(kept.plans)) == (RUN, {"run": RUN}, {FAULT})
    acted_between(place)
    nothing_left(place)
    assert remembered(place.site) == {}
    place.site.close()


def test_one_that_hangs_is_stopped_when_disarmed(machine: Container) -> None:
    """A script that waits for something for ever does not outlive its run."""
    place = Place(connect(load(machine.inventory()), LiveClock()), lambda: None)
    hanging = DeadMan.on_every(Undo("pve1", (quote("sleep", "3600"),)))
    place.keeping.arm(FAULT, hanging, 1)
    assert place.comes(lambda: has_fired(place), within=1 + LATE)
    acted_between(place)
    assert "sleep 3600" not in place.node.command(place.deadline(), "ps", "-eww", "-o", "args=")
    nothing_left(place)
    place.site.close()


# --- what the tests say ----------------------------------------------------------------------------------------------


def has_fired(place: Place) -> bool:
    """Whether the script has begun."""
    return f"{FAULT}.fired" in place.node.disk.names(f"/var/lib/pveha/{RUN}", place.deadline())


def acted_between(place: Place) -> tuple[float, float]:
    """Between which moments the dead-man acted, by what it left, which is gone then; no other one has."""
    ((fault, (fired,)),) = place.keeping.clear().items()
    assert (fault, fired.node) == (FAULT, "pve1")
    assert fired.low is not None
    assert fired.high is not None
    return fired.low / SECOND, fired.high / SECOND


def nothing_left(place: Place) -> None:
    """No unit, loaded or on the disk, and no file of that fault is there."""
    deadline = place.deadline()
    assert place.node.units.listed(f"pveha-{RUN}-*", deadline) == []
    assert place.standing() == frozenset()
    for folder in ("/etc/systemd/system", "/etc/systemd/system/timers.target.wants", "/run/systemd/transient"):
        assert [name for name in place.node.disk.names(folder, deadline) if name.startswith("pveha")] == []
    assert [name for name in place.node.disk.names(f"/var/lib/pveha/{RUN}", deadline) if FAULT in name] == []
