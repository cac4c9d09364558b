"""What a question about the site can be answered with, and the one way to wait for a yes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pytest_pveha.clock import SECOND
from pytest_pveha.errors import CantTell, NoProxmox, NotMet, NotThere, SiteError

if TYPE_CHECKING:
    from pytest_pveha.observe.observer import Observer

Verdict = Literal["yes", "no", "cant_tell", "not_there"]

T = TypeVar("T")

SELDOM = 5.0
"""Seconds between two questions in the longest waits: nobody may be missed for longer who must be healed at once."""
SHARE = 100
"""A wait is known to a hundredth of itself: that is often enough, and a busy cluster is asked less."""

_SO_FAR: dict[Verdict, str] = {"yes": "", "no": "not yet: ", "cant_tell": "cannot be told yet: ", "not_there": ""}
"""What stands before a condition while it is waited for: its name says what is to become true."""

Write = Callable[[str, dict[str, Any]], object]
"""Writes one line of the journal: its kind and its data."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Yes, no, or can't tell, with what was seen; or that what was asked about is not there, and why."""

    verdict: Verdict
    saw: str
    bounds: tuple[int, int] | None = None
    """Between which moments (mono ns) it came about, where the one who answers knows better than the one who asks."""
    final: bool = False
    """Whether nothing that is under way can change it: waiting longer would tell nothing new."""


def yes(saw: str, bounds: tuple[int, int] | None = None) -> Answer:
    """It was seen to be so."""
    return Answer("yes", saw, bounds)


def no(saw: str) -> Answer:
    """It was seen not to be so."""
    return Answer("no", saw)


def never(saw: str) -> Answer:
    """It was seen not to be so, and nobody is going to make it so."""
    return Answer("no", saw, final=True)


def cant_tell(why: str) -> Answer:
    """Nothing usable was observed."""
    return Answer("cant_tell", why)


def not_there() -> Answer:
    """It is about Proxmox, and the site has none."""
    return Answer("not_there", str(NoProxmox()))


@dataclass(frozen=True, slots=True)
class Condition:
    """A question with a name that reads well in "waiting for …"."""

    name: str
    ask: Callable[[Observer], Answer]


def each_of(members: Iterable[T], of: Callable[[T], Condition], name: str) -> Condition:
    """Of every one of them the condition holds; what was met once is not asked again."""
    conditions = [of(member) for member in members]
    met: dict[int, Answer] = {}

    def ask_all(observer: Observer) -> Answer:
        for index, condition in enumerate(conditions):
            if index in met:
                continue
            answer = ask(condition, observer)
            if answer.verdict not in ("yes", "not_there"):
                return answer
            met[index] = answer
        if absent := [answer for answer in met.values() if answer.verdict == "not_there"]:
            return absent[0]
        return yes("; ".join(answer.saw for answer in met.values()) or "nobody is concerned")

    return Condition(name, ask_all)


@dataclass(frozen=True, slots=True)
class Met:
    """A condition that came true: after ``low``, where it was last seen not so, and by ``high`` (mono ns)."""

    saw: str
    low: int
    high: int


def wait_until(
    condition: Condition,
    within: float,
    observer: Observer,
    *,
    every: float = 1.0,
    share: float = SHARE,
    seldom: float = SELDOM,
) -> Met:
    """The condition was seen to hold.

    It is asked every ``every`` seconds on an even schedule; in long waits every hundredth (``share``) of the time
    waited so far, at most every ``seldom`` seconds.

    Raises:
        NotMet: it was last seen not to hold, at or after the deadline; or it was seen that it never will.
        CantTell: at the deadline nothing usable was seen.
        NotThere: at once, where it is about something that the site does not have.
    """
    begin = observer.site.clock.now().mono
    try:
        return _wait_until(condition, within, observer, lambda waited: max(every, min(seldom, waited / share)), begin)
    finally:
        observer.waited += observer.site.clock.now().mono - begin


def _wait_until(
    condition: Condition, within: float, observer: Observer, pause: Callable[[float], float], begin: int
) -> Met:
    clock = observer.site.clock
    end = begin + round(within * SECOND)
    low = due = begin
    last: Answer | None = None
    while True:
        asked = clock.now().mono
        answer = ask(condition, observer)
        answered = clock.now().mono
        observer.tell(f"{_SO_FAR[answer.verdict]}{condition.name}", answer.saw)
        if answer.verdict == "yes":
            return Met(answer.saw, *(answer.bounds or (low, answered)))
        if answer.verdict == "not_there":
            raise NotThere(condition.name, within, answer.saw)
        if answer.verdict == "no":
            low = asked
        if answer.verdict == "no" or last is None or last.verdict != "no":
            last = answer
        if answer.final:
            raise NotMet(f"{condition.name}: it will not be, so it is waited for no longer: {answer.saw}", answer.saw)
        if answered >= end:
            break
        waited = (answered - begin) / SECOND
        due = max(due + round(pause(waited) * SECOND), answered)
        clock.sleep_until(min(due, max(end, answered)))
    if answer.verdict == "no":
        raise NotMet(f"{condition.name}: not within {within:g} s; last seen: {answer.saw}", answer.saw)
    raise CantTell(condition.name, within, answer.saw)


def ask(condition: Condition, observer: Observer) -> Answer:
    """The answer now; a site that does not answer is "can't tell", never a traceback."""
    try:
        return condition.ask(observer)
    except NoProxmox:
        return not_there()
    except SiteError as error:
        return cant_tell(str(error))
