"""What guards the site while something is broken, each seen to act on the simulated site."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import whole_run
from ruamel.yaml import YAML
from whole_run import ROOT, Outcome, Place

from pytest_pveha.clock import SECOND
from pytest_pveha.embedded import attach, start
from pytest_pveha.errors import SiteBusy
from pytest_pveha.faults.keeping import STORE, Keeping, ask_to_stop, remembered
from pytest_pveha.handles.cluster_lease import ClusterLease, break_lease, lease_holder, seconds_left
from pytest_pveha.handles.connect import connect
from pytest_pveha.handles.site import Site
from pytest_pveha.inventory import load

SUITE = Path(__file__).with_name("safety_suite.py")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A user's own corner, for this process and those it starts."""
    with whole_run.place() as place:
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, place.environment[name])
        yield place


@pytest.fixture
def site(here: Place) -> Iterator[Site]:
    """A site of three nodes, reached."""
    embedded = start(load(here.inventory()))
    clock = embedded.clock()
    reached = connect(embedded.inventory, clock)
    try:
        yield reached
    finally:
        reached.close()
        clock.close()


def nodes(inventory: Path, count: int) -> Path:
    """The same site with that many nodes, each in a room of its own."""
    yaml = YAML()
    content = yaml.load(inventory.read_text())
    content["nodes"] = {f"pve{number}": {"room": f"r{number}"} for number in range(1, count + 1)}
    with inventory.open("w") as file:
        yaml.dump(content, file)
    return inventory


def played(here: Place, inventory: Path, test: str) -> Outcome:
    """The end of a run of that test alone."""
    return whole_run.run(inventory, here, "-k", test, suites=SUITE)


def reason(outcome: Outcome, test: str) -> str:
    """Why that test was not accepted."""
    (found,) = (each for each in outcome.verdict["tests"] if test in each["id"])
    return str(found["reason"])


def kinds(outcome: Outcome, **wanted: Any) -> list[str]:
    """The kinds of the fault's lines in their order, of those that carry that data."""
    lines = [line for line in outcome.journal if line.kind.startswith("fault.")]
    return [line.kind for line in lines if all(line.data.get(key) == value for key, value in wanted.items())]


# --- dead-men -------------------------------------------------------------------------------------------------------


def test_a_dead_man_that_acts_makes_the_test_invalid(here: Place) -> None:
    """A run that was held up finds that the nodes have undone its fault: what it measured proves nothing."""
    run = played(here, here.inventory(), "held_too_long")
    assert (run.exit_code, run.verdict["verdict"]) == (6, "invalid"), run.output
    assert "undid partition-1" in reason(run, "held_too_long")
    assert kinds(run)[-4:-2] == ["fault.healed", "fault.fired"]
    assert kinds(run)[-1] == "fault.close"


def acts(run: Outcome) -> list[tuple[int, int]]:
    """Between which moments dead-men acted, by the record."""
    return [(line.data["low"], line.data["high"]) for line in run.journal if line.kind == "fault.fired"]


def test_a_dead_man_that_acts_after_the_heal_harms_nothing(here: Place) -> None:
    """Out of reach when its fault was healed, and acting on an undone fault: on record, and no reason to doubt."""
    run = played(here, here.inventory(), "act_too_late")
    assert reason(run, "act_too_late") == "it makes no claim, so there is nothing that it proves", run.output
    (healed,) = [line.mono for line in run.journal if line.kind == "fault.healed"]
    (armed,) = [line for line in run.journal if line.kind == "fault.arm"]
    due = armed.mono + round(armed.data["seconds"] * SECOND)
    assert len(acts(run)) == len(armed.data["nodes"]) == 2
    assert all(healed < low <= due + SECOND and due - 5 * SECOND <= high for low, high in acts(run))


def test_a_dead_man_found_late_that_acted_in_time_makes_the_test_invalid(here: Place) -> None:
    """Nobody could ask when it was healed; found later, the time at which it acted is what counts."""
    run = played(here, here.inventory(), "act_in_time")
    assert (run.exit_code, run.verdict["verdict"]) == (6, "invalid"), run.output
    assert "undid power-cut-1 unasked" in reason(run, "act_in_time")
    assert kinds(run)[-1] == "fault.fired"


def test_a_dead_man_out_of_reach_is_found_as_soon_as_its_node_is_back(here: Place) -> None:
    """It is disarmed then, before it would have acted."""
    run = played(here, here.inventory(), "found_in_time")
    assert reason(run, "found_in_time") == "it makes no claim, so there is nothing that it proves", run.output
    assert "fault.fired" not in kinds(run)


def test_a_dead_man_that_cannot_be_relied_on_refuses_the_fault(here: Place) -> None:
    """Without a tool for the BMC on any other node nobody could switch the victim on again: nothing is broken."""
    run = played(here, here.inventory(missing_tools=["ipmitool"]), "power_cut")
    assert (run.exit_code, run.verdict["verdict"]) == (6, "not proven"), run.output
    assert "no dead-man would undo power-cut-1 if we died" in reason(run, "test_power_cut")
    assert [event for event in run.truth if event["kind"] == "bmc_command"] == []


def test_a_dead_man_that_does_not_reach_the_pdu_refuses_the_mains_cut(here: Place) -> None:
    """Where the inventory says how nodes switch outlets on and none can, the outlets stay on."""
    run = played(here, here.inventory(pdus=True, missing_tools=["curl"]), "test_mains_cut")
    assert (run.exit_code, run.verdict["verdict"]) == (6, "not proven"), run.output
    assert "no dead-man would undo mains-cut-1 if we died" in reason(run, "test_mains_cut")
    assert [event for event in run.truth if event["kind"] == "mains"] == []


def test_a_fault_may_not_last_longer_than_declared(here: Place) -> None:
    """The sentinel ends it before the dead-man does, and the campaign with it."""
    run = played(here, here.inventory(), "longer_than_declared")
    assert (run.exit_code, run.verdict["verdict"]) == (6, "not proven"), run.output
    assert "longer than was declared" in reason(run, "longer_than_declared")
    assert "fault.fired" not in kinds(run)


def test_the_watchdog_is_never_stopped(here: Place) -> None:
    """The refusal says why, and nothing was stopped."""
    run = played(here, here.inventory(), "never_the_watchdog")
    assert run.verdict["verdict"] == "not proven", run.output
    assert "watchdog-mux" in reason(run, "never_the_watchdog")
    assert kinds(run) == []


# --- progressive cuts -------------------------------------------------------------------------------------------------


def test_a_cut_of_two_nodes_is_tried_for_a_moment_first(here: Place) -> None:
    """Fifteen seconds with dead-men of twenty-five on every node, then whole again, then the cut itself."""
    run = played(here, nodes(here.inventory(), 5), "two_cut_off")
    trial = [line for line in run.journal if line.data.get("fault") == "partition-1-trial"]
    assert [line.kind for line in trial] == [
        "fault.plan", "fault.arm", "fault.inject", "fault.effect", "fault.heal", "fault.healed", "fault.close",
    ]  # fmt: skip
    armed, healed = trial[1], trial[5]
    assert (armed.data["seconds"], len(armed.data["nodes"])) == (25.0, 5)
    assert healed.mono - trial[2].mono < 25 * SECOND
    assert "fault.fired" not in kinds(run)
    assert kinds(run, fault="partition-1")[-1] == "fault.close"
    assert [event for event in run.truth if event["kind"] == "dead"] == []
    (cut,) = (line for line in run.journal if (line.kind, line.data.get("fault")) == ("fault.plan", "partition-1"))
    lrms = [each for each in run.truth if each["kind"] == "daemon_state" and each["daemon"] == "pve-ha-lrm"]
    then = {each["node"]: each["new"] for each in lrms if each["at"] < cut.mono}
    lost = {each["node"] for each in lrms if each["new"] == "lost_agent_lock" and each["at"] < cut.mono}
    assert lost
    assert {then[node] for node in lost} == {"active"}  # their watchdogs were fed again before the longer cut


# --- copies and the lease ---------------------------------------------------------------------------------------------


def test_the_nodes_remember_a_run_and_its_faults(site: Site) -> None:
    """What one controller left there another one reads, and clears."""
    keeping = Keeping(site, "0a1b2c3d")
    keeping.begin({"site": "s", "host": "here"})
    keeping.plan("power-cut-1", {"type": "PowerCut", "params": {"node": "pve1"}})
    found = remembered(site)
    assert set(found) == {"0a1b2c3d"}
    assert found["0a1b2c3d"].about["host"] == "here"
    assert found["0a1b2c3d"].plans["power-cut-1"]["params"] == {"node": "pve1"}
    site.nodes["pve1"].disk.write(f"{STORE}/0a1b2c3d/partition-2.json", "{half a pl", site.clock.deadline(10))
    assert remembered(site)["0a1b2c3d"].unreadable == {"partition-2"}
    keeping.clear()
    assert remembered(site) == {}


def test_one_run_a_cluster(site: Site) -> None:
    """A second controller is refused with the holder's name; broken deliberately, the first one notices."""
    first = ClusterLease(site.nodes, site.clock, "aaaaaaaa", "one", 11)
    second = ClusterLease(site.nodes, site.clock, "bbbbbbbb", "two", 22)
    first.take()
    with pytest.raises(SiteBusy, match=r"held by run aaaaaaaa of process 11 on one, for 1800 s more.*pveha lease"):
        second.take()
    site.clock.sleep(60)
    first.renew()
    break_lease(site.nodes, site.clock)
    second.take()
    with pytest.raises(SiteBusy, match="no longer ours: its lease is held by run bbbbbbbb"):
        first.renew()
    first.give_back()  # not his: left alone
    holder = lease_holder(site.nodes, site.clock)
    assert holder is not None
    assert holder.run == "bbbbbbbb"
    second.give_back()
    assert lease_holder(site.nodes, site.clock) is None


@contextmanager
def controller(inventory: Path, hours: int) -> Iterator[Site]:
    """The site, as a controller reaches it whose clock is wrong by so many hours."""
    embedded = attach(load(inventory)) or start(load(inventory))
    clock = embedded.clock()
    clock._epoch += hours * 3600 * SECOND
    site = connect(embedded.inventory, clock)
    try:
        yield site
    finally:
        site.close()
        clock.close()


@pytest.mark.parametrize(("holder", "other"), [(0, 1), (0, -1), (1, 0), (-1, 0)])
def test_a_controller_whose_clock_is_wrong_has_the_same_lease(here: Place, holder: int, other: int) -> None:
    """How long a lease runs is told by the nodes' clock: nobody takes a living one for dead, nor lets his own lapse."""
    inventory = here.inventory()
    with controller(inventory, holder) as site:
        ClusterLease(site.nodes, site.clock, "aaaaaaaa", "one", 11).take()
    with controller(inventory, other) as site:
        with pytest.raises(SiteBusy, match=r"on one, for 1(800|79\d) s more"):
            ClusterLease(site.nodes, site.clock, "bbbbbbbb", "two", 22).take()
        there = lease_holder(site.nodes, site.clock)
        assert there is not None
        assert 1790 <= seconds_left(there, site.nodes, site.clock) <= 1800


def test_a_wish_left_on_a_node_ends_the_run(here: Place) -> None:
    """`pveha stop` on another machine: healed at once, and the rest is not proven."""
    inventory = here.inventory()
    embedded = start(load(inventory), speed=20)  # paced, so that we can act beside the run
    typed = whole_run.command(inventory, here, "-k", "dark_for_long", suites=SUITE)
    process = subprocess.Popen(typed, env=here.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        run = _wait_for_run(here, process)
        with _beside(inventory) as site:
            assert ask_to_stop(site, run, "the night shift") != []
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
        embedded.stop()
    assert process.returncode == 6, output
    assert "stopped: the night shift (asked on pve" in output, output


def _wait_for_run(here: Place, process: subprocess.Popen[str]) -> str:
    import select

    while process.poll() is None:
        for journal in here.reports.rglob("journal.jsonl"):
            if b'"kind":"fault.effect"' in journal.read_bytes():
                return journal.parent.name.rpartition("-")[2]
        select.select([], [], [], 0.05)
    raise AssertionError("the run ended before it broke anything")


class _Beside:
    """The paced site as another machine reaches it: real time, no turn to be taken."""

    def __init__(self, inventory: Path) -> None:
        self._inventory = inventory

    def __enter__(self) -> Site:
        from pytest_pveha.clock import LiveClock

        embedded = attach(load(self._inventory))
        assert embedded is not None
        self._site = connect(embedded.inventory, LiveClock())
        return self._site

    def __exit__(self, *_: object) -> None:
        self._site.close()


def _beside(inventory: Path) -> _Beside:
    return _Beside(inventory)


def test_an_undo_that_cannot_be_kept_by_a_majority_refuses_the_fault(here: Place) -> None:
    """With /var full on one of two nodes no majority remembers, so nothing is broken."""
    assert os.environ["PVEHA_STATE"]
    inventory = nodes(here.inventory(defects=["undo-store-read-only"], guests=[]), 2)
    yaml = YAML()
    content = yaml.load(inventory.read_text())
    for guest in content["guests"]:
        guest["preferred_node"] = "pve1"
    with inventory.open("w") as file:
        yaml.dump(content, file)
    embedded = start(load(inventory))
    clock = embedded.clock()
    site = connect(embedded.inventory, clock)
    from pytest_pveha.errors import PreflightRefused

    try:
        with pytest.raises(
            PreflightRefused, match=r"lies on 1 of 2 nodes, which is no majority.*Read-only file system"
        ):
            Keeping(site, "0a1b2c3d").begin({})
    finally:
        site.close()
        clock.close()
