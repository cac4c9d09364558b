"""A person who was asked to pull a cord, and nobody knows whether they will: the site is dirty until somebody says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import whole_run
from whole_run import ROOT, Place

from pytest_pveha.clock import LiveClock
from pytest_pveha.embedded import attach
from pytest_pveha.errors import HealFailed
from pytest_pveha.handles.cluster_lease import break_lease, lease_holder
from pytest_pveha.handles.connect import connect
from pytest_pveha.healing import heal_site
from pytest_pveha.inventory import load
from pytest_pveha.record.questions import Desk

MAINS = ROOT / "suites" / "nodes" / "test_physical_power_cut.py"
PLUG = "cord-pulled-1-plug"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A user's own corner, for this process, too."""
    with whole_run.place() as place:
        for name in ("PVEHA_STATE", "PVEHA_RUNTIME"):
            monkeypatch.setenv(name, place.environment[name])
        yield place


def test_who_vanishes_leaves_a_dirty_site_until_somebody_answers(here: Place) -> None:
    """Nothing is without power, and no other fault is allowed: healing asks again, and ends with the answer."""
    inventory = asking(here, "1 min 30 s")
    outcome = whole_run.run(inventory, here, "-k", "other-1", suites=MAINS)
    test = outcome.test("other-1")
    assert (test["verdict"], outcome.exit_code) == ("dirty", 7), outcome.output
    assert "nobody has said that all its power cords are in and stay in" in test["reason"]
    (close,) = [line.data for line in outcome.journal if line.kind == "test.close"]
    assert close["error"] == "HealFailed"
    assert "J. Doe was asked to pull the cord of" in close["reason"]
    assert not [event for event in here.truth if event["kind"] in ("mains", "power_off")]
    assert here.open_runs() != []

    with answering(Desk(outcome.verdict["run"])):
        told: list[str] = []
        assert heal_site(inventory, by="pveha heal", tell=told.append) == 1
    assert any("put ALL power cords of" in line for line in told)
    assert here.open_runs() == []
    lines = (outcome.folder / "journal.jsonl").read_text().splitlines()
    assert any('"answer":"done"' in line and PLUG in line for line in lines)


def test_who_heals_elsewhere_knows_that_somebody_may_be_on_the_way(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the nodes remember: it says who was asked what, asks for the cords, and claims nothing without an answer.

    No node can put in a cord: what stands there for a person to type is all that a healer can do.
    """
    inventory = asking(here, "1 min 30 s")
    outcome = whole_run.run(inventory, here, "-k", "other-1", suites=MAINS)
    assert outcome.exit_code == 7, outcome.output
    run = outcome.verdict["run"]
    monkeypatch.setenv("PVEHA_STATE", str(here.folder / "another-machine"))
    break_the_lease(inventory)
    told: list[str] = []
    with pytest.raises(HealFailed, match="nobody has said that all its power cords are in and stay in"):
        heal_site(inventory, by="pveha heal", tell=told.append)
    heard = "\n".join(told)
    assert f"run {run} asked J. Doe (cord-pulled-1-pull): pull ALL power cords of" in heard
    assert "no answer is known: somebody may do it yet" in heard
    assert f"Then type: pveha answer {run} {PLUG} done (or: refuse)" in heard
    assert "healed, the site is" not in heard
    asking(here, "6 h")  # the site's time is not that of who answers
    with answering(Desk(run)):
        assert heal_site(inventory, by="pveha heal", tell=told.append) >= 1


def asking(here: Place, within: str) -> Path:
    """The inventory whose operator pulls a cord and is not seen again; an answer is waited for so long."""
    nodes = {f"pve{number}": {"operator": {"who": "J. Doe", "answer_within": within}} for number in (1, 2, 3)}
    return here.inventory({"nodes": nodes}, defects=["operator-vanishes"], boot_seconds=40, operator={})


def break_the_lease(inventory: Path) -> None:
    """The machine of the run that was is known to be dead."""
    found = attach(load(inventory))
    assert found is not None
    clock = found.clock()
    site = connect(found.inventory, clock)
    try:
        if lease_holder(site.nodes, clock) is not None:
            break_lease(site.nodes, clock)
    finally:
        site.close()
        clock.close()


@contextmanager
def answering(desk: Desk) -> Iterator[None]:
    """While open, somebody answers the question about the cords whenever a process that lives asks it."""
    over = threading.Event()

    def answer() -> None:
        while not over.is_set():
            if any(question.step == PLUG and question.heard for question in desk.open()):
                desk.say(PLUG, "done", "jdoe")  # and again, if it is asked anew
            LiveClock().sleep(0.05)

    person = threading.Thread(target=answer)
    person.start()
    try:
        yield
    finally:
        over.set()
        person.join()
