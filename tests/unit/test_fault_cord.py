"""A cord pulled by hand: what is seen decides, not what is said; and nobody is left on the way to pull one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Deadline, Instant, LiveClock
from pytest_pveha.errors import HarmSeen, PreflightRefused, Unreachable, WrongMachine
from pytest_pveha.faults.cord import CordPulled
from pytest_pveha.handles.cluster import Asked, Manager, Membership
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.hand import Hand
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer, View
from pytest_pveha.observe.people import People
from pytest_pveha.record.questions import Desk

NOW = LiveClock().now()
CORD = CordPulled("n1", "cord-pulled-1")
READY, PULL, PLUG = (f"cord-pulled-1-{word}" for word in ("ready", "pull", "plug"))


@dataclass
class Bmc:
    """A BMC that is as dead as its node where the mains are gone."""

    node: Node
    on: bool = True

    def power_state(self, deadline: Deadline) -> Bmc:
        if not self.node.mains and not self.node.bmc_elsewhere:
            raise Unreachable("the BMC gave no answer")
        return self

    fresh_power_state = power_state

    def set_power(self, command: str, deadline: Deadline) -> None:
        self.on = command == "on"


@dataclass
class Node:
    """A node with its port, mains and person."""

    name: str
    port: int
    mains: bool = True
    kernel: bool = True
    bmc_elsewhere: bool = False
    operator: Hand | None = field(default_factory=lambda: Hand("J. Doe", "", 60.0))
    room: str = "a"

    def __post_init__(self) -> None:
        self.bmc: Bmc | None = Bmc(self)
        self.addresses = (("127.0.0.1", self.port),)

    @property
    def lives(self) -> bool:
        return self.mains and self.kernel and (self.bmc is None or self.bmc.on)


class Field:
    """Two nodes, a clock on which waiting takes no time, and whatever happens at certain seconds."""

    def __init__(self) -> None:
        self.mono = 0
        self.acts: dict[int, Callable[[], object]] = {}
        self.nodes = Nodes(cast("Any", [Node("n1", 9), Node("n2", 10)]))
        self.clock = self.cluster = self
        self.has_ceph = False

    def now(self) -> Instant:
        return Instant(self.mono, NOW.utc + self.mono)

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(cast("Any", self), self.mono + round(seconds * SECOND))

    def sleep(self, seconds: float) -> None:
        self.sleep_until(self.mono + round(seconds * SECOND))

    def sleep_until(self, mono: int) -> None:
        self.mono = max(self.mono, mono)
        for second in [each for each in self.acts if each * SECOND <= self.mono]:
            self.acts.pop(second)()

    def connected(self, pending: dict[int, int], until: int) -> set[int]:
        lives = {node.port for node in cast("list[Any]", list(self.nodes)) if node.lives}
        found = {descriptor for descriptor, port in pending.items() if port in lives}
        if not found:
            self.sleep_until(until)
        return found

    def membership(self, deadline: Deadline) -> Membership:
        asked = Asked(self.now(), self.now(), "n2")
        return Membership("c", True, {node.name: cast("Any", node).lives for node in self.nodes}, asked)

    def manager(self, deadline: Deadline) -> Manager:
        return Manager("n2", 101, {}, {}, {}, True, Asked(self.now(), self.now(), "n2"))


@dataclass
class Scene:
    """A run about to ask for n1's cord."""

    desk: Desk
    site: Field = field(default_factory=Field)
    written: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.observer = self.fresh()
        self.n1, self.n2 = cast("list[Any]", list(self.site.nodes))

    def fresh(self) -> Observer:
        """Another process that looks, such as a healer."""
        observer = Observer(cast("Site", self.site), lambda kind, data: self.written.append((kind, data)))
        observer.people = People(observer, self.desk)
        return observer

    def at(self, second: int, act: Callable[[], object]) -> None:
        self.site.acts[second] = act

    def says(self, step: str, word: Any = "done") -> Callable[[], object]:
        return lambda: self.desk.say(step, word, "jdoe")

    def asked(self) -> list[str]:
        return [data["step"] for kind, data in self.written if kind == "ask"]

    def pulled(self) -> None:
        """The mains of n1 are gone."""
        self.n1.mains = False


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A desk in a directory of its own."""
    return Scene(Desk("0a1b2c3d", {"PVEHA_STATE": str(tmp_path)}))


def test_somebody_must_be_there_first(scene: Scene) -> None:
    """Nobody named, and nobody answering, are refusals; ready, it goes on."""
    scene.at(3, scene.says(READY))
    CORD.summon(scene.observer)
    assert scene.asked() == [READY]
    with pytest.raises(PreflightRefused, match=r"J\. Doe gave no answer in 60 s"):
        CORD.summon(scene.observer)
    scene.n1.operator = None
    with pytest.raises(PreflightRefused, match=r"nobody can pull the cord of n1; add nodes\.n1\.operator"):
        CORD.summon(scene.observer)


def test_what_is_dead_already_is_not_pulled(scene: Scene) -> None:
    """A silent node, and a BMC that does not say on, prove nothing by being silent afterwards."""
    CORD.preflight(scene.observer)
    scene.n1.kernel = False
    with pytest.raises(PreflightRefused, match="n1 is silent already"):
        CORD.preflight(scene.observer)
    scene.n1.kernel = True
    scene.n1.bmc.power_state = scene.n1.bmc.fresh_power_state = _silent
    with pytest.raises(PreflightRefused, match="the BMC of n1 is to die with it, and is silent before"):
        CORD.preflight(scene.observer)


def _silent(deadline: Deadline) -> Any:
    raise Unreachable("no answer")


def test_the_cut_is_bounded_by_what_was_seen(scene: Scene) -> None:
    """Seen dead before anybody says so it goes on; the moment lies behind the last sign of life."""
    CORD.preflight(scene.observer)
    scene.at(20, scene.pulled)
    scene.at(50, scene.says(PULL))
    CORD.inject(scene.observer)
    assert scene.site.mono < 30 * SECOND
    answer = CORD.took_effect(scene.observer)
    assert answer.verdict == "yes"
    assert answer.bounds is not None
    low, high = answer.bounds
    assert 18 * SECOND <= low <= 20 * SECOND <= high <= 26 * SECOND
    assert not scene.observer.people.asked(PULL)


def test_an_answer_after_the_deed_is_on_record(scene: Scene) -> None:
    """Nobody waits for it any more; the next look hears it, and says when."""
    scene.at(20, scene.pulled)
    CORD.inject(scene.observer)
    scene.at(40, scene.says(PULL))
    for _ in range(3):
        scene.site.sleep(10)
        scene.observer.look()
    (answer,) = [data for kind, data in scene.written if kind == "answer"]
    assert answer["step"] == PULL
    assert answer["low"] <= 40 * SECOND <= answer["high"] <= answer["low"] + 11 * SECOND


def test_said_and_not_done_is_no_effect(scene: Scene) -> None:
    """The word is heard, and does not count: it lives."""
    scene.at(20, scene.says(PULL))
    CORD.inject(scene.observer)
    answer = CORD.took_effect(scene.observer)
    assert (answer.verdict, "is one of its cords still in?" in answer.saw) == ("no", True)


def test_a_bmc_that_lives_on_is_no_loss_of_the_mains(scene: Scene) -> None:
    """The machine is silent and its BMC is not: switched off, perhaps, but not without power."""
    scene.n1.bmc_elsewhere = True
    scene.at(20, scene.pulled)
    scene.at(30, scene.says(PULL))
    CORD.inject(scene.observer)
    answer = CORD.took_effect(scene.observer)
    assert answer.verdict == "no"
    assert "the BMC of n1 still answers (chassis on)" in answer.saw


@pytest.mark.parametrize(("word", "why"), [("refuse", "jdoe refuses to pull the cord of n1"), (None, "nor answered")])
def test_who_does_not_pull_breaks_nothing(scene: Scene, word: str | None, why: str) -> None:
    """Refused, or neither done nor answered in their time: nothing is known to be broken."""
    if word is not None:
        scene.at(20, scene.says(PULL, word))
    with pytest.raises(PreflightRefused, match=why):
        CORD.inject(scene.observer)
    assert scene.site.mono <= 62 * SECOND


def harm(view: View) -> None:
    """What the sentinel does when n2 is lost."""
    if view.membership is not None and not view.membership.online["n2"]:
        raise HarmSeen("n2 was lost too")


@pytest.mark.parametrize(
    ("bmc_elsewhere", "with_n1", "error"),
    [(False, False, WrongMachine), (True, False, HarmSeen), (False, True, HarmSeen)],
)
def test_the_wrong_cord_is_told_from_harm(
    scene: Scene, bmc_elsewhere: bool, with_n1: bool, error: type[Exception]
) -> None:
    """Another node without power while n1 lives is a hand's doing; with its BMC alive, or n1 gone too, it is not."""
    CORD.preflight(scene.observer)
    scene.observer.sentinel = harm
    scene.n2.bmc_elsewhere = bmc_elsewhere

    def strike() -> None:
        scene.n2.mains = False
        scene.n1.mains = not with_n1

    scene.at(20, strike)
    with pytest.raises(error) as caught:
        CORD.inject(scene.observer)
    if isinstance(caught.value, WrongMachine):
        assert caught.value.nodes == {"n2"}
        CORD.heal(scene.observer)
        assert scene.asked()[-1] == f"{PLUG}-n2"
        assert CORD.healed(scene.observer).saw == "n2 has no power either: its cords are to be put in again"
        scene.n2.mains = True
        scene.says(PULL)()
        scene.says(PLUG)()
        assert CORD.healed(scene.observer).verdict == "yes"


def test_a_node_that_was_silent_before_is_no_hands_doing(scene: Scene) -> None:
    """Another fault's victim is neither the wrong machine, nor asked for, nor waited for."""
    scene.n2.mains = False
    fault = replace(CORD, silent=("n2",))
    scene.observer.people.put(PULL, "pull", Hand("J. Doe", "", 60.0), 60.0)
    scene.says(PULL, "refuse")()
    fault.heal(scene.observer)
    assert scene.asked() == [PULL]
    assert fault.healed(scene.observer).verdict == "yes"
    assert CORD.healed(scene.observer).verdict == "no"


def test_seen_dead_and_back_nobody_has_to_say_so(scene: Scene) -> None:
    """The healer asks once, sees power, and is content; a node that stays off is switched on at its BMC."""
    CORD.preflight(scene.observer)
    scene.at(20, scene.pulled)
    CORD.inject(scene.observer)
    CORD.took_effect(scene.observer)
    healer = scene.fresh()
    for _ in range(2):
        with pytest.raises(Unreachable):
            CORD.heal(healer)
    assert scene.asked() == [PULL, PLUG]
    scene.n1.mains, scene.n1.bmc.on = True, False
    assert CORD.healed(healer).verdict == "no"
    CORD.heal(healer)
    assert scene.n1.bmc.on
    assert CORD.healed(healer).verdict == "yes"


def test_who_was_asked_to_pull_is_not_left_on_the_way(scene: Scene) -> None:
    """Killed while somebody walks: the node lives, and yet a person must say that its cords are in and stay in."""
    scene.observer.people.put(PULL, "pull", Hand("J. Doe", "", 60.0), 60.0)
    healer = scene.fresh()
    CORD.heal(healer)
    assert scene.asked()[-1] == PLUG
    answer = CORD.healed(healer)
    assert (answer.verdict, "nobody has said that all its power cords are in" in answer.saw) == ("no", True)
    scene.says(PLUG, "refuse")()
    assert CORD.healed(healer).verdict == "no"
    again = scene.fresh()
    CORD.heal(again)  # typed once more, it is asked once more
    scene.says(PLUG)()
    assert CORD.healed(again).verdict == "yes"


@pytest.mark.parametrize("asked", [False, True])
def test_nobody_is_troubled_for_nothing(scene: Scene, asked: bool) -> None:
    """Where nobody was asked to pull, or they refused, and the node lives, healing asks nobody."""
    if asked:
        scene.observer.people.put(PULL, "pull", Hand("J. Doe", "", 60.0), 60.0)
        scene.says(PULL, "refuse")()
    healer = scene.fresh()
    before = scene.asked()
    CORD.heal(healer)
    assert scene.asked() == before
    assert CORD.healed(healer).verdict == "yes"
