"""People are asked by every way there is; what they say is on record, and what they do not say is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Clock, Deadline, Instant, LiveClock
from pytest_pveha.errors import PreflightRefused, ProtocolError, SiteError, StopAsked
from pytest_pveha.handles.hand import Hand
from pytest_pveha.handles.site import Site
from pytest_pveha.observe.observer import Observer
from pytest_pveha.observe.people import People
from pytest_pveha.record.questions import Desk, Question, Said

RUN = "0a1b2c3d"


@dataclass
class Time:
    """A clock on which waiting takes no time, and at certain moments somebody does something."""

    mono: int = 0
    acts: dict[int, Any] = field(default_factory=dict)
    simulated = True

    def now(self) -> Instant:
        return Instant(self.mono, self.mono)

    def sleep_until(self, mono: int) -> None:
        self.mono = max(self.mono, mono)
        for second in [each for each in self.acts if each * SECOND <= self.mono]:
            self.acts.pop(second)()

    def deadline(self, seconds: float) -> Deadline:
        return Deadline(cast("Clock", self), self.mono + round(seconds * SECOND))

    guard = LiveClock.guard


@dataclass
class Screen:
    """A terminal that keeps what it shows."""

    shown: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    listens: bool = True

    def show(self, text: str) -> None:
        self.shown.append(text)

    def typed(self) -> str | None:
        return self.lines.pop(0) if self.lines else None


class Silent:
    """A cluster that does not answer."""

    def membership(self, deadline: Deadline) -> None:
        raise SiteError("no answer")


@dataclass
class Scene:
    """A run with nothing but people in it."""

    desk: Desk
    time: Time = field(default_factory=Time)
    screen: Screen = field(default_factory=Screen)
    written: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    why: str | None = None

    def __post_init__(self) -> None:
        site = type("Field", (), {"clock": self.time, "cluster": Silent()})()
        observer = Observer(cast("Site", site), lambda kind, data: self.written.append((kind, data)))
        self.people = observer.people = People(observer, self.desk, self.screen, lambda: self.why)

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [data for each, data in self.written if each == kind]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A desk in a directory of its own."""
    return Scene(Desk(RUN, {"PVEHA_STATE": str(tmp_path)}))  # type: ignore[return-value]


JANE = Hand("J. Doe", "+49 30 1", 60.0)


def test_an_answer_from_another_terminal_is_on_record(scene: Scene) -> None:
    """Who said what, between which moments, and by which way."""
    scene.time.acts[7] = lambda: scene.desk.say("ready", "done", "jdoe")
    scene.people.ask("ready", "stand there", JANE)
    assert scene.told("ask") == [{"step": "ready", "text": "stand there", "who": "J. Doe", "within": 60.0}]
    (answer,) = scene.told("answer")
    assert (answer["answer"], answer["user"], answer["way"]) == ("done", "jdoe", "pveha answer")
    assert (answer["low"], answer["high"]) == (6 * SECOND, 7 * SECOND)
    assert scene.desk.open() == []


def test_what_to_type_stands_on_the_terminal(scene: Scene) -> None:
    """Whom it is for, what to do, the command for elsewhere, and that the word is enough here."""
    scene.screen.lines = ["done"]
    scene.people.ask("ready", "stand there", JANE)
    (text,) = scene.screen.shown
    assert text.splitlines() == [
        "J. Doe (+49 30 1): stand there",
        "Then type: pveha answer 0a1b2c3d ready done (or: refuse)",
        "Here it is enough to type that last word.",
    ]
    assert scene.told("answer")[0]["way"] == "terminal"


def test_a_terminal_that_nobody_types_at_says_so(scene: Scene) -> None:
    """Nobody is told to type where it would not be read."""
    scene.screen.listens = False
    scene.people.put("ready", "stand there", JANE, 60)
    assert "Here" not in scene.screen.shown[0]


def test_other_words_are_no_answer(scene: Scene) -> None:
    """They are shown what counts, and waited for."""
    scene.screen.lines = ["yes", "DONE "]
    scene.people.ask("ready", "stand there", JANE)
    assert scene.screen.shown[1] == "'yes' is no answer; type: done or refuse"
    assert [each["answer"] for each in scene.told("answer")] == ["done"]


def test_no_answer_in_time_is_a_refusal(scene: Scene) -> None:
    """After the time of the inventory, or of the test, and the message says how it could have been answered."""
    with pytest.raises(PreflightRefused, match=r"J\. Doe \(\+49 30 1\) gave no answer in 60 s .*pveha answer RUN"):
        scene.people.ask("ready", "stand there", JANE)
    assert scene.time.mono == 60 * SECOND
    with pytest.raises(PreflightRefused, match="gave no answer in 5 s"):
        scene.people.ask("again", "stand there", JANE, within=5)
    assert scene.told("answer") == []
    assert scene.desk.open() == []


def test_a_refusal_is_one(scene: Scene) -> None:
    """It ends the wait at once, and is on record."""
    scene.time.acts[3] = lambda: scene.desk.say("ready", "refuse", "jdoe")
    with pytest.raises(PreflightRefused, match=r"jdoe refuses \(ready: stand there\)"):
        scene.people.ask("ready", "stand there", JANE)
    assert scene.time.mono == 3 * SECOND
    assert scene.told("answer")[0]["answer"] == "refuse"


def test_a_wish_to_stop_is_heard_meanwhile(scene: Scene) -> None:
    """Nobody has to wait for the person who is waited for."""
    scene.time.acts[3] = lambda: setattr(scene, "why", "enough")
    with pytest.raises(StopAsked, match="enough"):
        scene.people.ask("ready", "stand there", JANE)
    assert scene.desk.open() == []


def test_asked_again_it_is_answered_again(scene: Scene) -> None:
    """An answer to the same question of before is none."""
    scene.time.acts = {1: lambda: scene.desk.say("ready", "done", "jdoe")}
    scene.people.ask("ready", "stand there", JANE)
    with pytest.raises(PreflightRefused, match="no answer"):
        scene.people.ask("ready", "stand there", JANE)


def test_the_one_who_is_called_hears_it_all(scene: Scene, tmp_path: Path) -> None:
    """The command has what stands on the terminal on its standard input, with what to type."""
    heard = tmp_path / "heard"
    hand = Hand("J. Doe", "", 60.0, ("tee", str(heard)))
    scene.people.put("ready", "stand there", hand, 60)
    assert heard.read_text() == "J. Doe: stand there\nThen type: pveha answer 0a1b2c3d ready done (or: refuse)\n"


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (("false",), "J. Doe ended with status 1"),
        (("/no/such/pager",), "cannot be called: /no/such/pager: No such file or directory; look at operator.page"),
    ],
)
def test_a_call_that_fails_is_told_and_the_question_stands(scene: Scene, page: tuple[str, ...], why: str) -> None:
    """Whoever sits at the terminal can still do it."""
    scene.people.put("ready", "stand there", Hand("J. Doe", "", 60.0, page), 60)
    assert why in scene.told("note")[0]["text"]
    assert [each.step for each in scene.desk.open()] == ["ready"]
    with pytest.raises(ProtocolError):
        Hand("J. Doe", "", 60.0, page).call("x", cast("Clock", LiveClock()))


def test_a_reminder_is_no_second_question(scene: Scene) -> None:
    """Healing tries again every minute, and pages once."""
    for _ in range(3):
        scene.people.remind("plug", "put it in", JANE, 60)
    assert len(scene.told("ask")) == len(scene.screen.shown) == 1
    assert not scene.people.over()
    scene.time.mono = 360 * SECOND
    assert scene.people.over()
    scene.people.clear()
    scene.people.remind("plug", "put it in", JANE, 60)
    assert len(scene.told("ask")) == 2


def test_outside_of_a_run_nobody_can_be_asked(scene: Scene) -> None:
    """That is an error of the site's, not a traceback; and nothing is to be cleared."""
    people = People(scene.people._observer)
    with pytest.raises(SiteError, match="nobody can be asked here"):
        people.put("ready", "stand there", JANE, 60)
    people.hear()
    people.clear()
    assert people.over()


def test_what_breaks_something_is_asked_only_if_it_is_known_elsewhere(scene: Scene) -> None:
    """Else nobody is called, nothing waits for an answer, and the refusal says what to do."""
    kept: list[tuple[str, bool, str | None]] = []
    known = True

    def keep(question: Question, said: Said | None) -> bool:
        kept.append((question.step, question.settled, said.word if said else None))
        return known

    people = People(scene.people._observer, scene.desk, scene.screen, keep=keep)
    people.put("pull", "pull it", JANE, 60, harmful=True)
    scene.desk.say("pull", "done", "jdoe")
    people.hear()
    people.settle("pull")
    assert kept == [("pull", False, None), ("pull", False, "done"), ("pull", True, "done")]
    known = False
    people.put("plug", "put it in", JANE, 60)
    shown = len(scene.screen.shown)
    with pytest.raises(PreflightRefused, match=r"no majority of the nodes takes down that J\. Doe .* nobody was asked"):
        people.put("pull", "pull it", JANE, 60, harmful=True)
    assert len(scene.screen.shown) == shown
    assert not people.asked("pull")
