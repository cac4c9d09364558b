"""Where the time of an incident went: one moment a phase, in seconds since the fault took effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.durations import effect_of, recovery
from pytest_pveha.judge.facts import Seen, TestFacts, integer, text

NAMES: Final = (
    "fault", "membership lost", "node unknown", "fence", "acknowledged", "recovery", "start", "running", "agent",
    "application", "node back", "quorum whole",
)  # fmt: skip
"""Every phase, in the order in which they come."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase began ``start`` seconds after the fault took effect, surely between ``low`` and ``high``."""

    name: str
    start: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class _Moment:
    low: int
    high: int
    source: str


def zero_of(test: TestFacts) -> int | None:
    """The moment (mono ns) from which the test's phases count: the best estimate of the fault's effect."""
    try:
        _, low, high = effect_of(test)
    except Inconclusive:
        return None
    return (low + high) // 2


def phases(test: TestFacts) -> list[Phase]:
    """The phases that were observed, in their order; none without a fault that took effect.

    Of several guests the last one counts: the incident's phase is over when no guest is before it any more.
    """
    zero = zero_of(test)
    if zero is None:
        return []
    moments = _moments(test)
    return [
        Phase(
            name=name,
            start=_seconds((moments[name].low + moments[name].high) // 2 - zero),
            low=_seconds(moments[name].low - zero),
            high=_seconds(moments[name].high - zero),
            source=moments[name].source,
        )
        for name in NAMES
        if name in moments
    ]


def _seconds(nanoseconds: int) -> float:
    return nanoseconds // 1000 / 1_000_000


def _moments(test: TestFacts) -> dict[str, _Moment]:
    fault, low, high = effect_of(test)
    node = fault.node or ""
    begin = low if fault.before is None else fault.before
    seen = [each for each in test.seen if each.high >= begin and each.old is not None and each.old != each.new]
    unbounded = [each for each in test.seen if each.high >= begin and each.old is None]
    found: dict[str, _Moment | None] = {"fault": _Moment(low, high, f"{fault.type} took effect")}
    found["membership lost"] = _first(seen, f"membership/{node}", lambda each: each.new == "offline")
    found["node unknown"] = _first(
        seen, f"node_status/{node}", lambda each: each.new == "unknown" and each.old != "fence"
    )
    found["fence"] = _first(seen, f"node_status/{node}", lambda each: each.new == "fence")
    found["acknowledged"] = _first(unbounded + seen, f"acknowledged/{node}", lambda each: True) or _first(
        seen, f"node_status/{node}", lambda each: (each.old, each.new) == ("fence", "unknown")
    )
    moved = [each for each in seen if each.what in _moved(seen, node)]
    found["recovery"] = _last(moved, "service/", lambda each: _state(each.new) == "recovery")
    found["start"] = _last(moved, "service/", lambda each: _placed(each, node))
    found["running"] = _running(test, begin, node, {each.what.partition("/")[2] for each in moved})
    found["agent"] = _last(seen, "agent/", lambda each: each.new in ("yes", "up", "good"))
    found["application"] = _application(test)
    found["node back"] = _back(seen, node)
    found["quorum whole"] = _quorum_whole(test, begin, seen)
    return {name: moment for name, moment in found.items() if moment is not None}


def _first(seen: Iterable[Seen], what: str, fits: Callable[[Seen], bool]) -> _Moment | None:
    """The first such change; of two sources that saw the same one, the one that knows it better."""
    found = sorted((each for each in seen if each.what == what and fits(each)), key=lambda each: (each.high, each.low))
    if not found:
        return None
    same = [each for each in found if each.low <= found[0].high]
    return _moment(min(same, key=lambda each: (each.high - each.low, each.high, each.source)))


def _last(seen: Iterable[Seen], prefix: str, fits: Callable[[Seen], bool]) -> _Moment | None:
    """The last subject's first such change."""
    seen = list(seen)
    subjects = sorted({each.what for each in seen if each.what.startswith(prefix)})
    found = [moment for what in subjects if (moment := _first(seen, what, fits)) is not None]
    return max(found, key=lambda each: (each.high, each.low, each.source), default=None)


def _moment(seen: Seen) -> _Moment:
    return _Moment(seen.low, seen.high, seen.source)


def _state(value: str) -> str:
    return value.partition("@")[0]


def _placed(seen: Seen, victim: str) -> bool:
    """The HA manager gave the service to another node: ``started@NEW`` after fence or recovery at the victim."""
    state, _, node = seen.new.partition("@")
    return state in ("started", "starting") and node not in ("", victim)


def _moved(seen: list[Seen], victim: str) -> set[str]:
    """The services that were the victim's when it failed; others may move later, and that is another matter."""
    return {each.what for each in seen if each.what.startswith("service/") and (each.old or "").endswith(f"@{victim}")}


def _running(test: TestFacts, begin: int, victim: str, subjects: set[str]) -> _Moment | None:
    starts = [first_start(test, subject, begin, victim) for subject in sorted(subjects)]
    found = [_Moment(low, high, source) for low, high, source in filter(None, starts) if low is not None]
    return max(found, key=lambda each: (each.high, each.low), default=None)


def first_start(test: TestFacts, subject: str, begin: int, victim: str) -> tuple[int | None, int, str] | None:
    """Between which moments the guest's process first began on another node than the victim; low None if unbounded.

    ``process_start/SID@NODE`` lines are bounded by the process's own age; ``process/SID@NODE`` bounds a start only
    when its absence was seen before.
    """
    aged: dict[str, Seen] = {}
    looked: dict[str, Seen] = {}
    for each in sorted(test.seen, key=lambda seen: (seen.high, seen.low)):
        kind, _, rest = each.what.partition("/")
        sid, _, node = rest.partition("@")
        if sid != subject or node in ("", victim) or each.high < begin:
            continue
        if kind == "process_start":
            aged.setdefault(node, each)
        elif kind == "process" and each.new == "running":
            looked.setdefault(node, each)
    found = [aged.get(node) or looked[node] for node in sorted(aged.keys() | looked.keys())]
    if not found:
        return None
    blind = any(each.old is None and each.what.startswith("process/") for each in found)
    earliest = min(found, key=lambda each: (each.high, each.low))
    return None if blind else min(each.low for each in found), earliest.high, earliest.source


def _application(test: TestFacts) -> _Moment | None:
    """The last of the guests that went away and answered lastingly again."""
    found = []
    for subject in sorted({run.subject for run in test.runs if not run.subject.startswith("node:")}):
        try:
            each = recovery(test, subject)
        except Inconclusive:
            continue
        if each.high is None:
            return None
        found.append(_Moment(each.low, each.high, "samples"))
    return max(found, key=lambda each: (each.high, each.low), default=None)


def _back(seen: list[Seen], node: str) -> _Moment | None:
    lost = _first(seen, f"membership/{node}", lambda each: each.new == "offline")
    if lost is None:
        return None
    later = [each for each in seen if each.low >= lost.low and each.high > lost.high]
    return _first(later, f"membership/{node}", lambda each: each.new == "online")


def _quorum_whole(test: TestFacts, begin: int, seen: list[Seen]) -> _Moment | None:
    lost = _first(seen, "quorate", lambda each: each.new != "yes")
    if lost is not None:
        regained = _first([each for each in seen if each.low >= lost.low], "quorate", lambda each: each.new == "yes")
        if regained is not None:
            return regained
    for each in test.expects:
        low, high = integer(each.get("low")), integer(each.get("high"))
        if low is None or high is None or low > high or high < begin or each.get("outcome") != "met":
            continue
        if "quorum is whole" in text(each.get("condition")):
            return _Moment(low, high, "every node's view")
    return None
