"""Whether a guest arrived: who gave up a move is not waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_pveha.clock import SECOND, Instant
from pytest_pveha.errors import NotMet
from pytest_pveha.handles.cluster import Asked, Manager, Service
from pytest_pveha.handles.guest import Guest
from pytest_pveha.handles.node import JournalLine, Node
from pytest_pveha.observe.answer import Condition, cant_tell, never, no, wait_until, yes
from pytest_pveha.observe.guests import runs_on
from pytest_pveha.observe.observer import Observer

ABORTED = "<root@pam> end task UPID:n1:0001D26B:00036F6D:69294A1B:qmigrate:101:root@pam: migration aborted"
ARRIVED = "<root@pam> end task UPID:n1:0001D26B:00036F6D:69294A1B:qmigrate:101:root@pam: OK"
OF_ANOTHER = "<root@pam> end task UPID:n1:0001D26B:00036F6D:69294A1B:qmigrate:102:root@pam: migration aborted"


class Passing:
    """Time that passes while somebody sleeps."""

    def __init__(self) -> None:
        self.mono = 100 * SECOND

    def now(self) -> Instant:
        return Instant(self.mono, self.mono)

    def deadline(self, seconds: float) -> None:
        del seconds

    def sleep_until(self, mono: int) -> None:
        self.mono = max(self.mono, mono)


def observer(state: str, journal: list[str], told: list[str] | None = None) -> Observer:
    clock = Passing()
    row = Service(state, "n1", True)
    manager = Manager("n1", 0, {}, {"vm:101": row}, {}, True, Asked(clock.now(), clock.now(), "n1"))
    lines = [JournalLine(1.0, "pve-ha-lrm", text) for text in journal]
    home = SimpleNamespace(name="n1", journal=lambda since, units, deadline: lines)

    class Named(dict[str, Any]):
        names = ("n1", "n2")

    site = SimpleNamespace(clock=clock, nodes=Named(n1=home))
    seen = SimpleNamespace(
        site=site,
        since=0.0,
        waited=0,
        look=lambda: SimpleNamespace(manager=manager, trouble=""),
        last=lambda what: f"{state}@n1",
        tell=lambda waiting_for, saw: told.append(waiting_for) if told is not None else None,
    )
    return cast("Observer", seen)


def arrival() -> Condition:
    return runs_on(Guest("vm:101", "g101", "gold", ()), cast("Node", SimpleNamespace(name="n2")))


@pytest.mark.parametrize(
    ("state", "journal", "final"),
    [
        ("started", [ABORTED], True),
        ("started", [], False),
        ("started", [OF_ANOTHER], False),
        ("started", [ABORTED, ARRIVED], False),
        ("migrate", [ABORTED], False),
    ],
)
def test_an_aborted_move_is_known_to_be_over(state: str, journal: list[str], final: bool) -> None:
    """Where HA calls it started at home, and its last move there failed, HA does not try again."""
    answer = arrival().ask(observer(state, journal))
    assert (answer.verdict, answer.final) == ("no", final)
    assert ("migration aborted" in answer.saw) is final


def test_what_will_not_be_is_waited_for_no_longer() -> None:
    """It fails at once, with the reason, where it would else be waited for for 20 minutes."""
    here = observer("started", [ABORTED])
    begin = here.site.clock.now().mono
    with pytest.raises(NotMet, match=r"waited for no longer: .*migration aborted"):
        wait_until(arrival(), 1200, here)
    assert here.site.clock.now().mono == begin


def test_what_is_waited_for_is_not_told_as_if_it_were_so() -> None:
    """A condition's name says what is to become true: until it is, the terminal says so."""
    told: list[str] = []
    answers = iter([cant_tell("no answer"), no("chassis on"), yes("chassis off")])
    wait_until(Condition("the node is off", lambda observer: next(answers)), 60, observer("started", [], told))
    assert told == ["cannot be told yet: the node is off", "not yet: the node is off", "the node is off"]
    with pytest.raises(NotMet):
        wait_until(Condition("x", lambda observer: never("it is gone")), 60, observer("started", []))
