"""The tool can fail: every defect of membership, links, quorum device and watchdog is caught by its quorum suite."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import whole_run
from whole_run import Outcome

from pytest_pveha.clock import SECOND
from pytest_pveha.sim.defects import DEFECTS

EXIT = {"rejected": 1, "not proven": 6}
"""Exit code by the run's verdict."""


@dataclass(frozen=True)
class Caught:
    """How a defect shows: in which suite's test, with which verdict, and the cause that is named."""

    suite: str
    chosen: str
    """What is typed after -k."""
    verdict: str
    cause: str
    """A regular expression."""
    blocks: dict[str, Any] = field(default_factory=dict)
    simulator: dict[str, Any] = field(default_factory=dict)


def guests(*nodes: str) -> list[dict[str, Any]]:
    """An HA guest on each of these nodes."""
    return [{"id": f"vm:{number}", "tier": "gold", "preferred_node": node} for number, node in enumerate(nodes, 101)]


def site(count: int, **more: Any) -> dict[str, Any]:
    """So many nodes, each with a guest and in a room of its own."""
    names = [f"pve{number}" for number in range(1, count + 1)]
    return {"nodes": {name: {"room": name} for name in names}, "guests": guests(*names), **more}


SMALL: dict[str, Any] = {"guests": [{"id": "vm:107", "node": "pve2", "ha": False}]}
"""The guest without HA is on a node that is there."""
DEVICE = {"host": "10.99.9.9"}

CAUGHT = {
    "minority-keeps-quorum": Caught(
        "test_partition",
        "minority_stops and other-1",
        "rejected",
        r"pve\d: not quorate by their own word: not within 30 s; last seen: pve\d says that it is quorate \(pve",
    ),
    "starts-without-quorum": Caught(
        "test_partition",
        "minority_stops and other-1",
        "rejected",
        r"overlaps of vm:\d+ is 1, objective none: it ran on two nodes at the same time",
    ),
    "writable-without-quorum": Caught(
        "test_partition",
        "minority_stops and other-1",
        "rejected",
        r"nothing can be written below /etc/pve: not within 10 s; last seen: pve\d wrote a file below /etc/pve",
    ),
    "cut-takes-more": Caught(
        "test_partition",
        "minority_stops and others-2",
        "rejected",
        r"pve\d was lost too, while only pve\d, pve\d was to be.*: healed at once, the campaign ends",
        site(5),
        SMALL,
    ),
    "rejoin-flaps": Caught(
        "test_partition",
        "short_cut and other-1",
        "rejected",
        r"rejoins of cluster is \d, objective at most 1: a node came back and was lost again",
    ),
    "token-of-a-large-cluster": Caught(
        "test_partition",
        "minority_stops and other-1",
        "not proven",
        r"the interlock refuses to break pve\d: membership: 2\.2 × token 22\.\d+ s .*lower totem\.token_coefficient",
    ),
    "idle-master-resets": Caught(
        "test_partition",
        "idle and crm-master",
        "rejected",
        r"collateral_resets of cluster is 1, objective none: a node that was not meant to die was reset",
        {"guests": guests("pve1", "pve2")},
        {"guests": []},
    ),
    "qnetd-decides-late": Caught(
        "test_partition",
        "even_split",
        "rejected",
        r"both_quorate of cluster is \d+(\.\d)? s.*, objective at most \d+\.\d s: both sides of the cut",
        site(2, quorum_device=DEVICE),
        SMALL,
    ),
    "second-link-on-same-cable": Caught(
        "test_link_loss",
        "everywhere and 0",
        "rejected",
        r"link-loss|quorum",
        {},
        {"links": 2},
    ),
    "bond-member-in-wrong-vlan": Caught(
        "test_bond_member",
        "crm-master",
        "rejected",
        r"downtime of vm:10\d is \d+(\.\d)? s .*, objective at most 5 s",
        simulator={"bonds": {"bond0": {"members": ["eno3", "eno4"], "mode": "active-backup", "carries": ["guest"]}}},
    ),
    "qdevice-not-voting": Caught(
        "test_qdevice_loss",
        "spares",
        "rejected",
        r"the quorum device votes: not within 10 s; last seen: pve1 counts 0 votes of the quorum device \(pve1: 2 of 3",
        site(2, quorum_device=DEVICE),
        SMALL,
    ),
    "reset-before-its-time": Caught(
        "test_quorum_loss",
        "long",
        "rejected",
        r"starved_for of cluster is \d+(\.\d)? s .*, objective at least 60 s: a node was reset sooner than",
    ),
    "short-loss-resets": Caught(
        "test_quorum_loss",
        "short",
        "rejected",
        r"reset although not meant to be: pve\d",
    ),
}
CAUGHT_TOO = {
    "timers-never-fire": Caught(
        "test_quorum_loss",
        "short",
        "not proven",
        r"the dead-man of pve1, pve2, pve3 did not undo partition-1-trial by itself, as it must if we die",
    ),
    "watchdog-never-bites": Caught(
        "test_partition",
        "minority_stops and other-1",
        "rejected",
        r"pve\d: reset by the own watchdog: not within 600 s; last seen: pve\d has the boot id it had",
    ),
    "watchdog-bites-late": Caught(
        "test_partition",
        "minority_stops and other-1",
        "rejected",
        r"fence_margin of cluster is -?\d+(\.\d)? s \(.*\), objective at least 20 s: a node that was cut off died too",
    ),
}
"""Defects that another suite is promised to catch, and that show here as well."""
QUICK = (
    "bond-member-in-wrong-vlan",
    "minority-keeps-quorum",
    "writable-without-quorum",
    "token-of-a-large-cluster",
    "qdevice-not-voting",
)
"""Those of every test run."""


@pytest.fixture
def here() -> Iterator[whole_run.Place]:
    """A user's own corner."""
    with whole_run.place() as place:
        yield place


def test_every_defect_of_quorum_is_in_the_table() -> None:
    """What is expected is what the registry promises."""
    assert {name: (f"suites/quorum/{each.suite}.py", each.verdict) for name, each in CAUGHT.items()} == {
        name: (defect.caught_by, defect.verdict)
        for name, defect in DEFECTS.items()
        if defect.caught_by.startswith("suites/quorum/")
    }


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.proof) for name in (CAUGHT | CAUGHT_TOO)]
)
def test_the_defect_is_caught_and_named(name: str, here: whole_run.Place) -> None:
    """With that defect the named test fails with the promised verdict and the cause, and the site is left whole."""
    caught = (CAUGHT | CAUGHT_TOO)[name]
    outcome = run(here, caught, [name])
    (test,) = (each for each in outcome.verdict["tests"] if each["id"] != "gate" and ran(each))
    assert (test["verdict"], outcome.exit_code) == (caught.verdict, EXIT[caught.verdict]), outcome.output
    assert re.search(caught.cause, test["reason"]), test["reason"]
    closes = [line.data["outcome"] for line in outcome.journal if line.kind == "fault.close"]
    assert set(closes) <= {"healed"}
    assert here.open_runs() == []
    left = next(line.data for line in outcome.journal if line.kind == "snapshot" and line.data["as"] == "left")
    assert left["differences"] == []


@pytest.mark.proof
def test_a_cut_that_takes_more_is_undone_at_once(here: whole_run.Place) -> None:
    """The short cut before the real one shows it: it is undone within 25 s, and the longer one is never made."""
    outcome = run(here, CAUGHT["cut-takes-more"], ["cut-takes-more"])
    injected = [line for line in outcome.journal if line.kind == "fault.inject"]
    (healed,) = [line for line in outcome.journal if line.kind == "fault.healed"]
    assert [line.data["fault"] for line in injected] == ["partition-1-trial"]
    assert healed.mono - injected[0].data["before"] <= 25 * SECOND


def run(here: whole_run.Place, caught: Caught, defects: list[str]) -> Outcome:
    """That test alone, on a site with these defects."""
    inventory = here.inventory(caught.blocks, defects=defects, boot_seconds=40, **caught.simulator)
    suite = whole_run.ROOT / "suites" / "quorum" / f"{caught.suite}.py"
    return whole_run.run(inventory, here, "-k", caught.chosen, suites=suite)


def ran(test: dict[str, Any]) -> bool:
    """Whether it was put to the test, or was to be."""
    return test["verdict"] not in ("not applicable", "waived")
