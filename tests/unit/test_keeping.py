"""When a dead-man has acted is told by the clock of its node's kernel, or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Deadline, Instant, LiveClock
from pytest_pveha.errors import PreflightRefused, ProtocolError, SiteError, Unreachable
from pytest_pveha.faults.fault import DeadMan, Undo
from pytest_pveha.faults.keeping import Armed, Fired, Keeping, remembered
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.node import Node, Uptime, uptime_of
from pytest_pveha.handles.shell import quote
from pytest_pveha.handles.site import Site
from pytest_pveha.record.questions import Question, Said

BOOT, OTHER = "5f76b90a-0d1c-4d8c-8a55-0b6a52e9b0aa", "11111111-0d1c-4d8c-8a55-0b6a52e9b0aa"
START = LiveClock().now()


@dataclass
class Host:
    """A node on which the dead-man of ``power-cut-1`` acted at 100 s of its kernel's life; it is 160 s old now."""

    name: str = "n1"
    kept: str = f"{BOOT}\n100.00 800.12\n"
    boot_id: str = BOOT
    age: float = 160.0
    reached: bool = True
    tool: bool = True
    files: list[str] = field(default_factory=lambda: ["power-cut-1.json", "power-cut-1.sh", "power-cut-1.fired"])
    disarmed: list[str] = field(default_factory=list)

    @property
    def disk(self) -> Any:
        return self

    @property
    def units(self) -> Any:
        return self

    def names(self, folder: str, deadline: Deadline) -> list[str]:
        if not self.reached:
            raise Unreachable("silent")
        return list(self.files)

    def read(self, path: str, deadline: Deadline) -> str:
        return self.kept

    def remove(self, deadline: Deadline, *paths: str) -> None:
        self.files = [name for name in self.files if not any(path.endswith(name) for path in paths)]

    def disarm(self, tag: str, deadline: Deadline) -> None:
        self.disarmed.append(tag)

    def write(self, path: str, text: str, deadline: Deadline) -> None:
        if not self.reached:
            raise Unreachable("silent")

    def act(self, deadline: Deadline, *words: str) -> None:
        if not self.tool:
            raise SiteError(f"node {self.name}: {words[0]}: command not found")

    def arm(self, tag: str, seconds: float, script: str, deadline: Deadline) -> None:
        """A timer that a reset takes away."""

    def arm_for_good(self, tag: str, seconds: float, script: str, deadline: Deadline) -> None:
        """A timer that outlives a reset."""

    def active(self, unit: str, deadline: Deadline) -> bool:
        return self.reached

    def listed(self, pattern: str, deadline: Deadline) -> list[str]:
        return []

    def uptime(self, deadline: Deadline) -> tuple[Uptime, Instant, Instant]:
        if self.age < 0:
            raise ProtocolError("no uptime")
        return Uptime(self.boot_id, self.age), at(1000.0), at(1000.1)


def at(seconds: float) -> Instant:
    return replace(START, mono=round(seconds * SECOND))


def keeping(*hosts: Host, lost: Iterable[str] = ()) -> Keeping:
    @dataclass
    class Cluster:
        shunned: frozenset[str]

    @dataclass
    class Place:
        nodes: Nodes
        clock: LiveClock
        cluster: Cluster

    nodes = Nodes([cast("Node", host) for host in hosts])
    return Keeping(cast("Site", Place(nodes, LiveClock(), Cluster(frozenset(lost)))), "0a1b2c3d")


def two_of(*hosts: Host, lasting: bool) -> DeadMan:
    """Two of these nodes are needed, each of which must have a tool."""
    check = ((("ipmitool", "-V"),),)
    undos = tuple(Undo(host.name, (quote("true"),), outlives_reboot=lasting, checks=check) for host in hosts)
    return DeadMan(undos, 2)


def test_the_first_that_can_are_armed() -> None:
    """Who lacks the tool is passed over, where another has it."""
    hosts = (Host("n1"), Host("n2", tool=False), Host("n3"), Host("n4"))
    armed = keeping(*hosts).arm("power-cut-1", two_of(*hosts, lasting=True), 60)
    assert armed == Armed(("n1", "n3"), 60, outlives_reboot=True)


def test_one_that_could_is_too_few_while_others_live() -> None:
    """If that one failed, too, nobody would undo what outlives a restart."""
    hosts = (Host("n1"), Host("n2", tool=False))
    with pytest.raises(PreflightRefused) as refused:
        keeping(*hosts).arm("power-cut-1", two_of(*hosts, lasting=True), 60)
    assert str(refused.value) == (
        "2 nodes must be able to undo power-cut-1 if we died, and only n1 would, so nothing was broken: "
        "node n2: ipmitool: command not found"
    )


def test_one_is_enough_for_what_lasts_where_our_own_fault_keeps_the_other_away() -> None:
    """A second fault inside of the first; what a reset ends is undone by each node for itself, and needs them all."""
    hosts = (Host("n1"), Host("n2", reached=False))
    armed = keeping(*hosts, lost=["n2"]).arm("osd-stopped-1", two_of(*hosts, lasting=True), 60)
    assert armed.nodes == ("n1",)
    with pytest.raises(PreflightRefused, match=r"2 nodes must be able to undo .* only n1 would, .*: silent"):
        keeping(*hosts, lost=["n2"]).arm("partition-1", two_of(*hosts, lasting=False), 60)
    silent = (Host("n1", reached=False), Host("n2", reached=False))
    with pytest.raises(PreflightRefused, match=r"no dead-man would undo osd-stopped-1 if we died, .*: silent; silent"):
        keeping(*silent, lost=["n1", "n2"]).arm("osd-stopped-1", two_of(*silent, lasting=True), 60)


def test_nobody_is_armed_where_nothing_need_be_undone() -> None:
    """What undoes itself, as a reboot does, is not refused for want of a node that would undo it."""
    armed = keeping(Host("n1"), Host("n2")).arm("clean-reboot-1", DeadMan.on_every(), 60)
    assert (armed.nodes, armed.outlives_reboot) == ((), False)


def test_it_is_told_with_its_error() -> None:
    """Sixty seconds before it was asked for, within what two clocks may differ in them and the question took."""
    (fired,) = keeping(Host()).disarm("power-cut-1")
    assert fired.low is not None
    assert fired.high is not None
    assert 939.9 * SECOND < fired.low < 940.0 * SECOND < fired.high < 940.2 * SECOND
    assert fired.after(round(939.8 * SECOND))
    assert not fired.after(round(940.0 * SECOND))


@pytest.mark.parametrize(
    "host",
    [
        Host(boot_id=OTHER),
        Host(kept=""),
        Host(kept=f"{BOOT}\n"),
        Host(kept="1795807645\n"),
        Host(age=99.0),
        Host(age=-1),
    ],
)
def test_else_it_cannot_be_told(host: Host) -> None:
    """After a restart of the node, or where the file is none or half of one, nobody knows."""
    (fired,) = keeping(host).disarm("power-cut-1")
    assert fired == Fired("n1")
    assert not fired.after(0)


def test_who_was_out_of_reach_is_chased_until_it_is_found() -> None:
    """It is remembered, asked again only when it is there, and then clean."""
    away, there = Host(reached=False), Host("n2", files=["power-cut-1.json"])
    kept = keeping(away, there)
    assert kept.disarm("power-cut-1") == []
    assert (kept.astray, there.files) == ({"n1"}, [])
    assert kept.chase(["n2"]) == {}
    assert kept.chase(["n1"]) == {}
    assert kept.astray == {"n1"}
    away.reached = True
    ((name, fired),) = kept.chase(["n1", "n2"]).items()
    assert (name, [one.node for one in fired]) == ("power-cut-1", ["n1"])
    assert (kept.astray, away.files, away.disarmed) == (set(), [], ["pveha-0a1b2c3d-power-cut-1"])


def test_who_did_not_answer_a_look_is_astray_too() -> None:
    """A node that nobody even asked is as one that was silent; clearing all ends the chase."""
    kept = keeping(Host(), Host("n2"))
    kept.disarm("power-cut-1", ("n1",))
    assert kept.astray == {"n2"}
    assert [one.node for one in kept.clear()["power-cut-1"]] == ["n2"]
    assert kept.astray == frozenset()


@pytest.mark.parametrize(
    "text", ["", BOOT, f"{BOOT}\nnan 1.00\n", f"{BOOT}\n1e9 1.00\n", f"{BOOT}\n-1.00 1.00\n", "x\n1.00 1.00"]
)
def test_what_is_no_uptime(text: str) -> None:
    """Nothing else passes for one."""
    assert uptime_of(text) is None


# --- what people were asked -------------------------------------------------------------------------------------------


@dataclass
class Shelf:
    """A node's disk under the store; one that is full takes nothing."""

    name: str
    full: bool = False
    files: dict[str, str] = field(default_factory=dict)

    @property
    def disk(self) -> Any:
        return self

    def write(self, path: str, content: str, deadline: Deadline) -> None:
        if self.full:
            raise Unreachable("No space left on device")
        self.files[path] = content

    def read(self, path: str, deadline: Deadline) -> str:
        return self.files[path]

    def names(self, folder: str, deadline: Deadline) -> list[str]:
        depth = folder.count("/") + 1
        return sorted({path.split("/")[depth] for path in self.files if path.startswith(f"{folder}/")})


@dataclass
class Field:
    """Three such nodes, of which one may be down because of us."""

    nodes: Nodes
    shunned: frozenset[str] = frozenset()
    clock: LiveClock = field(default_factory=LiveClock)

    @property
    def cluster(self) -> Any:
        return self


PULL = Question("0a1b2c3d", "cord-pulled-1-pull", "pull ALL power cords of n1 now", "J. Doe", 1)


def shelves(*full: str, shunned: str = "") -> tuple[Site, list[Shelf]]:
    """n1 to n3, of which these take nothing."""
    found = [Shelf(name, name in full) for name in ("n1", "n2", "n3")]
    away = frozenset({shunned} if shunned else ())
    return cast("Site", Field(Nodes([cast("Node", each) for each in found]), away)), found


def test_what_a_person_was_asked_is_known_elsewhere() -> None:
    """The newest copy of any node counts, as asked, answered, and seen to be done."""
    site, (one, *_) = shelves()
    keeping = Keeping(site, "0a1b2c3d")
    assert keeping.asked(PULL, None)
    asked = remembered(site)["0a1b2c3d"].asked["cord-pulled-1-pull"]
    assert (asked.text, asked.who, asked.settled, asked.said) == (PULL.text, "J. Doe", False, None)
    one.full = True  # it keeps the older copy
    assert keeping.asked(replace(PULL, settled=True), Said("done", "jdoe"))
    asked = remembered(site)["0a1b2c3d"].asked["cord-pulled-1-pull"]
    assert (asked.settled, asked.said) == (True, Said("done", "jdoe"))
    assert remembered(site)["0a1b2c3d"].plans == {}


def test_what_no_majority_takes_down_is_not_known_elsewhere() -> None:
    """Neither with full disks, nor with one and a node that is down because of us, which is not waited for."""
    assert not Keeping(shelves("n1", "n2")[0], "0a1b2c3d").asked(PULL, None)
    site, (one, *_) = shelves("n2", shunned="n1")
    assert not Keeping(site, "0a1b2c3d").asked(PULL, None)
    assert one.files == {}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"settled": "yes"}', '{"word": "perhaps", "at": "now"}', "\x00"])
def test_a_question_that_cannot_be_read_was_asked_and_is_open(text: str) -> None:
    """Whoever heals must think of somebody who may be on the way."""
    site, (one, *_) = shelves()
    one.files["/var/lib/pveha/0a1b2c3d/cord-pulled-1-pull.asked"] = text
    asked = remembered(site)["0a1b2c3d"].asked["cord-pulled-1-pull"]
    assert (asked.settled, asked.said) == (False, None)
