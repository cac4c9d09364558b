"""A switch taken off by hand: what the nodes see decides, not what is said; and nobody is left on the way to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Deadline, Instant, LiveClock
from pytest_pveha.errors import PreflightRefused, Unreachable
from pytest_pveha.faults.switches import SwitchPulled
from pytest_pveha.handles.cluster import Asked, Manager, Membership
from pytest_pveha.handles.guest import Nodes
from pytest_pveha.handles.hand import Hand
from pytest_pveha.handles.layout import Layout
from pytest_pveha.handles.node import Way
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.people import People
from pytest_pveha.record.questions import Desk

NOW = LiveClock().now()
PULLED = SwitchPulled("sw-ring", "switch-pulled-1", ("n1", "n2"), (0,), (1,), device=False)
READY, TAKE, BACK = (f"switch-pulled-1-{word}" for word in ("ready", "take", "back"))


@dataclass
class Node:
    """A node with two corosync links to the other one."""

    name: str
    site: Field
    at: str = "10.9.0.1"
    bmc: Any = None
    room: str = "a"

    def command(self, deadline: Deadline, *words: str) -> str:
        """``corosync-cfgtool -s`` or ``corosync-qdevice-tool -s``."""
        if "corosync-qdevice-tool" in words:
            return f"    State:              {'Connected' if self.site.device else 'Connecting'}\n"
        if self.site.mute:
            raise Unreachable("no answer")
        own, other = (1, 2) if self.name == "n1" else (2, 1)
        lines = []
        for link, up in self.site.links.items():
            lines += [f"LINK ID {link} udp", f"        nodeid:          {own}:  localhost"]
            lines += [f"        nodeid:          {other}:  {'connected' if up else 'disconnected'}"]
        return "\n".join(lines)

    def way(self, deadline: Deadline) -> Way:
        if not self.at:
            raise Unreachable("no answer")
        return Way("10.9.0.200", self.at)


class Field:
    """Two nodes, a clock on which waiting takes no time, and whatever happens at certain seconds."""

    def __init__(self) -> None:
        self.mono = 0
        self.links = {0: True, 1: True}
        self.device, self.mute, self.has_ceph = True, False, False
        self.acts: dict[int, Callable[[], object]] = {}
        self.nodes = Nodes(cast("Any", [Node("n1", self), Node("n2", self)]))
        self.clock = self.cluster = self
        self.layout = Layout(
            switches={"corosync0": ("sw-ring",), "guest": ("sw-ring",)}, cidrs={"guest": "10.3.0.0/24"}
        )
        self.switch_hands = {"sw-ring": Hand("J. Doe", "", 60.0)}

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

    def ring_addresses(self, deadline: Deadline) -> Mapping[str, tuple[str, ...]]:
        return {"n1": ("10.0.0.1", "10.1.0.1"), "n2": ("10.0.0.2", "10.1.0.2")}

    def membership(self, deadline: Deadline) -> Membership:
        asked = Asked(self.now(), self.now(), "n2")
        return Membership("c", True, {"n1": True, "n2": True}, asked)

    def manager(self, deadline: Deadline) -> Manager:
        return Manager("n2", 101, {}, {}, {}, True, Asked(self.now(), self.now(), "n2"))


@dataclass
class Scene:
    """A run about to have the switch taken off."""

    desk: Desk
    site: Field = field(default_factory=Field)
    written: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.observer = self.fresh()

    def fresh(self) -> Observer:
        """Another process that looks, such as a healer."""
        observer = Observer(cast("Site", self.site), lambda kind, data: self.written.append((kind, data)))
        observer.people = People(observer, self.desk)
        return observer

    def link(self, number: int, up: bool) -> Callable[[], object]:
        return lambda: self.site.links.update({number: up})

    def says(self, step: str, word: Any = "done") -> Callable[[], object]:
        return lambda: self.desk.say(step, word, "jdoe")

    def asked(self) -> list[str]:
        return [data["step"] for kind, data in self.written if kind == "ask"]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A desk in a directory of its own."""
    return Scene(Desk("0a1b2c3d", {"PVEHA_STATE": str(tmp_path)}))


def test_somebody_must_be_there_first(scene: Scene) -> None:
    """Nobody named, and nobody answering, are refusals; ready, it goes on, and the site was looked at meanwhile."""
    scene.site.acts[8] = scene.says(READY)
    PULLED.summon(scene.observer)
    assert scene.asked() == [READY]
    assert any(kind == "seen" and data["what"] == "quorate" for kind, data in scene.written)
    with pytest.raises(PreflightRefused, match=r"J\. Doe gave no answer in 60 s"):
        PULLED.summon(scene.observer)
    scene.site.switch_hands = {}
    with pytest.raises(
        PreflightRefused, match=r"nobody can take switch sw-ring off .* add switches\.sw-ring\.operator"
    ):
        PULLED.summon(scene.observer)


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("10.0.0.1", "we reach n1 at 10.0.0.1, which is link 0, over switch sw-ring alone"),
        ("10.3.0.1", "we reach n1 at 10.3.0.1, which is guest, over switch sw-ring alone"),
        ("", "over which switch we reach n1 cannot be told: no answer"),
    ],
)
def test_our_own_way_does_not_go_over_it(scene: Scene, at: str, told: str) -> None:
    """Who would lose sight of a node with the switch asks nobody to touch it."""
    PULLED.preflight(scene.observer)
    cast("Any", scene.site.nodes["n1"]).at = at
    with pytest.raises(PreflightRefused, match=told):
        PULLED.preflight(scene.observer)


def test_a_bmc_that_is_silent_already_refuses(scene: Scene) -> None:
    """What is to be silent with the switch, and is before, could not be seen to be back."""

    class Silent:
        def fresh_power_state(self, deadline: Deadline) -> Any:
            raise Unreachable("no answer")

    cast("Any", scene.site.nodes["n2"]).bmc = Silent()
    PULLED.preflight(scene.observer)
    with pytest.raises(PreflightRefused, match="the BMC of n2, behind switch sw-ring, is silent before"):
        replace(PULLED, bmcs=("n2",)).preflight(scene.observer)


def test_the_loss_is_bounded_by_what_was_seen(scene: Scene) -> None:
    """Seen off before anybody says so it goes on; the moment lies behind the last sight of its link."""
    scene.site.acts |= {20: scene.link(0, up=False), 50: scene.says(TAKE)}
    PULLED.inject(scene.observer)
    assert scene.site.mono < 30 * SECOND
    answer = PULLED.took_effect(scene.observer)
    assert (answer.verdict, answer.saw) == ("yes", "link 0 of n1, n2 is down, as without sw-ring")
    assert answer.bounds is not None
    assert 14 * SECOND <= answer.bounds[0] <= 20 * SECOND <= answer.bounds[1] <= 26 * SECOND
    assert not scene.observer.people.asked(TAKE)


@pytest.mark.parametrize(("instead", "hint"), [(False, "connected"), (True, "link 1 is down instead: is it the wrong")])
def test_said_and_not_done_is_no_effect(scene: Scene, instead: bool, hint: str) -> None:
    """The word is heard, and does not count; another switch is told, and is to be put back, too."""
    scene.site.acts |= {10: scene.link(1, up=not instead), 20: scene.says(TAKE)}
    PULLED.inject(scene.observer)
    answer = PULLED.took_effect(scene.observer)
    assert (answer.verdict, hint in answer.saw) == ("no", True)
    PULLED.heal(scene.observer)
    assert scene.asked() == [TAKE, BACK]
    healed = PULLED.healed(scene.observer)
    assert (healed.verdict, "link 1" in healed.saw) == ("no", instead)
    scene.link(1, up=True)()
    assert PULLED.healed(scene.observer).saw == "nobody has said that switch sw-ring is on the network and stays there"
    scene.says(BACK)()
    assert PULLED.healed(scene.observer).verdict == "yes"


@pytest.mark.parametrize(
    ("word", "why"), [("refuse", "jdoe refuses to take switch sw-ring off"), (None, "nor answered")]
)
def test_who_does_not_do_it_breaks_nothing(scene: Scene, word: str | None, why: str) -> None:
    """Refused, or neither done nor answered in their time: nothing is known to be broken."""
    if word is not None:
        scene.site.acts[20] = scene.says(TAKE, word)
    with pytest.raises(PreflightRefused, match=why):
        PULLED.inject(scene.observer)
    assert scene.site.mono <= 66 * SECOND


def test_seen_off_and_back_nobody_has_to_say_so(scene: Scene) -> None:
    """The healer asks once, sees every link, and is content; while a node is silent it cannot tell."""
    scene.site.acts[20] = scene.link(0, up=False)
    PULLED.inject(scene.observer)
    PULLED.took_effect(scene.observer)
    healer = scene.fresh()
    for _ in range(2):
        PULLED.heal(healer)
    assert scene.asked() == [TAKE, BACK]
    assert PULLED.healed(healer).saw == "n1 calls link 0 to node 2 disconnected"
    scene.site.mute = True
    assert PULLED.healed(healer).verdict == "cant_tell"
    scene.site.mute = False
    scene.link(0, up=True)()
    assert PULLED.healed(healer).verdict == "yes"


def test_who_was_asked_is_not_left_on_the_way(scene: Scene) -> None:
    """Killed while somebody walks: all is there, and yet a person must say that it stays so."""
    scene.observer.people.put(TAKE, "take it", Hand("J. Doe", "", 60.0), 60.0)
    healer = scene.fresh()
    PULLED.heal(healer)
    assert scene.asked()[-1] == BACK
    assert PULLED.healed(healer).verdict == "no"
    scene.says(BACK)()
    assert PULLED.healed(healer).verdict == "yes"


@pytest.mark.parametrize("asked", [False, True])
def test_nobody_is_troubled_for_nothing(scene: Scene, asked: bool) -> None:
    """Where nobody was asked to take it off, or they refused, and all is there, healing asks nobody."""
    if asked:
        scene.observer.people.put(TAKE, "take it", Hand("J. Doe", "", 60.0), 60.0)
        scene.says(TAKE, "refuse")()
    healer = scene.fresh()
    before = scene.asked()
    PULLED.heal(healer)
    assert scene.asked() == before
    assert PULLED.healed(healer).verdict == "yes"


def test_the_quorum_devices_switch(scene: Scene) -> None:
    """With the device behind it, it is off when nobody is connected any more, and back when everybody is."""
    fault = replace(PULLED, links=(), others=(0, 1), device=True)
    assert fault.reach.device
    fault.preflight(scene.observer)
    assert fault.took_effect(scene.observer).saw == "n1 is still connected to the quorum device"
    scene.site.device = False
    assert fault.took_effect(scene.observer).saw == "the quorum device of n1, n2 is down, as without sw-ring"
    assert fault.healed(scene.observer).saw == "n1 is not connected to the quorum device"
    scene.site.device = True
    assert fault.healed(scene.observer).verdict == "yes"
