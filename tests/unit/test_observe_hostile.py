"""Conditions and checks on a site that lies: what was not seen of the thing that was meant decides nothing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pytest_pveha.clock import Deadline, LiveClock
from pytest_pveha.handles.cluster import Asked, Lrm, Manager, Membership
from pytest_pveha.handles.node import ClockOffset, JournalLine, Node
from pytest_pveha.observe.answer import Answer, ask
from pytest_pveha.observe.ha import find_in_journals, membership_lost, online, quorum_whole
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.readiness.checks import CHECKS

CLOCK = LiveClock()
NOW = CLOCK.now()
ASKED = Asked(NOW, NOW, "pve1")


class Machine:
    """A node as its shell shows it."""

    def __init__(
        self, name: str, *, calls_itself: str = "", machine: str = "", offset: float = 0, error: float = 0
    ) -> None:
        self.name = name
        self.calls_itself = calls_itself or name
        self.machine = machine or name
        self.offset = ClockOffset(offset, error)
        self.lines: list[JournalLine] = []

    def host_name(self, deadline: Deadline) -> str:
        return self.calls_itself

    def machine_id(self, deadline: Deadline) -> str:
        return self.machine

    def clock_offset(self, deadline: Deadline) -> ClockOffset:
        return self.offset

    def journal(self, since: float, units: tuple[str, ...], deadline: Deadline) -> list[JournalLine]:
        return self.lines


class Machines(list[Machine]):
    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self)


class Eyes:
    """Sees one view, and is its own site and cluster."""

    clock = CLOCK
    since = 0.0

    def __init__(self, *nodes: Machine, members: dict[str, bool] | None = None, manager: Manager | None = None) -> None:
        self.site = self.cluster = self
        self.nodes = Machines(nodes)
        self.endpoints = self.nodes.names
        self.members = members or {}
        self.manager = manager

    def look(self) -> View:
        return View(self.membership(), self.manager, "")

    def membership(self, deadline: Deadline | None = None, at: str | None = None) -> Membership:
        return Membership("prod", True, self.members, ASKED)

    def boot_id(self, node: Machine) -> str:
        return "x"


THREE = ("pve1", "pve2", "pve3")


def asked(condition: Any, eyes: Eyes) -> Answer:
    return ask(condition, cast("Observer", eyes))


def check(name: str, *nodes: Machine) -> Answer:
    (found,) = (each for each in CHECKS if each.name == name)
    return found.ask(cast("Observer", Eyes(*nodes)))


def manager(stamp: int, lrm: int) -> Manager:
    return Manager("pve1", stamp, {"pve2": "online"}, {}, {"pve2": Lrm("active", "active", lrm)}, True, ASKED)


def test_a_node_that_is_not_listed_is_not_lost() -> None:
    """A member that is lost stays in the list; a list without it is another cluster's."""
    victim = cast("Node", Machine("pve2"))
    foreign = asked(membership_lost(victim), Eyes(members={"a": True, "b": True}))
    assert foreign.verdict == "cant_tell"
    assert "does not list pve2" in foreign.saw
    assert asked(membership_lost(victim), Eyes(members={"pve1": True, "pve2": False})).verdict == "yes"


def test_a_view_that_lacks_a_node_is_not_whole() -> None:
    """An endpoint of another cluster, quorate and whole by itself, says nothing of ours."""
    nodes = [Machine(name) for name in THREE]
    assert asked(quorum_whole(), Eyes(*nodes, members=dict.fromkeys(THREE, True))).verdict == "yes"
    part = asked(quorum_whole(), Eyes(*nodes, members={"pve1": True, "other": True}))
    assert part.verdict == "no"
    assert "missing pve2, pve3" in part.saw


@pytest.mark.parametrize(("ahead", "verdict"), [(0, "yes"), (-3600, "no"), (3600, "no"), (86400 * 3650, "no")])
def test_a_node_is_back_when_its_stamp_is_of_now(ahead: int, verdict: str) -> None:
    """Neither a stamp of long ago nor one from the future shows a living LRM."""
    eyes = Eyes(members={"pve2": True}, manager=manager(1_795_335_870, 1_795_335_870 + ahead))
    assert asked(online(cast("Node", Machine("pve2"))), eyes).verdict == verdict


@pytest.mark.parametrize(
    ("offset", "error", "verdict"),
    [
        (0.2, 0.1, "yes"),
        (-3.0, 0.1, "no"),
        (60.0 * 60 * 24 * 365 * 30, 0.1, "no"),
        (4.0, 5.0, "cant_tell"),
        (0.0, 30.0, "cant_tell"),
    ],
)
def test_a_clock_is_right_only_as_far_as_it_was_measured(offset: float, error: float, verdict: str) -> None:
    """A node that took ten seconds to say its time has not said it to one second."""
    assert check("clocks", Machine("pve1"), Machine("pve2", offset=offset, error=error)).verdict == verdict


def test_another_machine_at_the_address_is_told() -> None:
    """What calls itself otherwise is not the node; a clone is, and is a fault."""
    assert check("themselves", *(Machine(name) for name in THREE)).verdict == "yes"
    assert check("themselves", Machine("PVE1", calls_itself="pve1")).verdict == "yes"
    other = check("themselves", Machine("pve1"), Machine("pve2", calls_itself="backup-7"))
    assert (other.verdict, "at the SSH address of pve2 is a machine that calls itself backup-7" in other.saw) == (
        "cant_tell",
        True,
    )
    clone = check("themselves", Machine("pve1"), Machine("pve2", machine="pve1"))
    assert (clone.verdict, clone.saw) == ("no", "pve1 and pve2 have the same machine id")


@pytest.mark.parametrize(("offset", "verdict"), [(0.5, "no"), (-7200.0, "cant_tell"), (1e9, "cant_tell")])
def test_a_journal_by_a_wrong_clock_proves_nothing_by_what_it_lacks(offset: float, verdict: str) -> None:
    """A clock that was set back hides a line that is there: that is no missing fence."""
    node = Machine("pve1", offset=offset)
    eyes = Eyes(node)
    assert find_in_journals(cast("Observer", eyes), cast("Any", eyes.nodes), "fencing: acknowledged").verdict == verdict
    node.lines.append(JournalLine(1.0, "pve-ha-crm", "fencing: acknowledged - x"))
    assert find_in_journals(cast("Observer", eyes), cast("Any", eyes.nodes), "fencing: acknowledged").verdict == "yes"
