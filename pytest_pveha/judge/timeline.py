"""What the report draws: each test's probes, marks and expectations, in seconds since its fault took effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from pytest_pveha.judge.facts import Path, Run, TestFacts, gather, integer, real, text
from pytest_pveha.judge.phases import phases, zero_of
from pytest_pveha.record.journal import Line


@dataclass(frozen=True, slots=True)
class Segment:
    """A probe gave this answer from ``start`` to ``end``; between segments nobody asked."""

    start: float
    end: float
    answer: str
    saw: str


@dataclass(frozen=True, slots=True)
class ProbeTimeline:
    """One probe's answers, in order."""

    probe: str
    subject: str
    what: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment worth a line: a phase, or something done to the site."""

    name: str
    at: float
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True)
class Expectation:
    """What was expected, within how long, and how it came out; ``low`` and ``high`` bound when it came true."""

    condition: str
    within: float | None
    outcome: str
    saw: str
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class TestTimeline:
    """One test on its own time scale; ``has_fault`` False: zero is the test's beginning."""

    __test__ = False

    test: str
    title: str
    roles: tuple[tuple[str, str], ...]
    has_fault: bool
    probes: tuple[ProbeTimeline, ...]
    marks: tuple[Mark, ...]
    expectations: tuple[Expectation, ...]
    paths: tuple[Path, ...] = ()


def timelines(lines: Sequence[Line]) -> list[TestTimeline]:
    """Every opened test's timeline, in the order of the run. Pure and total, as ``judge`` is."""
    return [_timeline(test) for test in gather(lines).tests.values()]


def _timeline(test: TestFacts) -> TestTimeline:
    fault = zero_of(test)
    zero = fault if fault is not None else test.opened_at or 0
    names = sorted({*test.watched, *(run.probe for run in test.runs)})
    return TestTimeline(
        test=test.id,
        title=test.title,
        roles=tuple(sorted((role, text(node)) for role, node in test.roles.items())),
        has_fault=fault is not None,
        probes=tuple(_probe(test, name, zero) for name in names),
        marks=_marks(test, zero),
        expectations=tuple(_expectation(each, zero) for each in test.expects),
        paths=tuple(test.paths),
    )


def _probe(test: TestFacts, name: str, zero: int) -> ProbeTimeline:
    runs = [run for run in test.runs if run.probe == name]
    subject, what, _ = test.watched.get(name, (runs[0].subject if runs else "", "", 0))
    limit = test.limit(name)
    followed = zip_longest(runs, runs[1:])
    segments = tuple(
        Segment(_since(run.first, zero), _since(_end(run, following, limit), zero), run.answer, run.saw)
        for run, following in followed
        if run is not None
    )
    return ProbeTimeline(name, subject, what, segments)


def _end(run: Run, following: Run | None, limit: int) -> int:
    """Until when the answer stands for the time after it: the next question, unless nobody asked for too long."""
    if following is None or following.first - run.last_end > limit:
        return run.last_end
    return max(run.first, following.first)


def _marks(test: TestFacts, zero: int) -> tuple[Mark, ...]:
    marks = [Mark(each.name, each.start, each.low, each.high, each.source) for each in phases(test)]
    for fault in test.faults:
        if fault.before is not None:
            after = fault.before if fault.after is None else max(fault.before, fault.after)
            low, high = _since(fault.before, zero), _since(after, zero)
            marks.append(Mark(f"{fault.fault} injected", low, low, high, fault.type))
        if fault.heal_at is not None:
            at = _since(fault.heal_at, zero)
            marks.append(Mark(f"{fault.fault} heal", at, at, at, fault.type))
    return tuple(sorted(marks, key=lambda mark: (mark.at, mark.name)))


def _expectation(each: dict[str, object], zero: int) -> Expectation:
    low, high = integer(each.get("low")), integer(each.get("high"))
    return Expectation(
        condition=text(each.get("condition")),
        within=real(each.get("within")),
        outcome=text(each.get("outcome")),
        saw=text(each.get("saw")),
        low=None if low is None else _since(low, zero),
        high=None if high is None else _since(high, zero),
    )


def _since(moment: int, zero: int) -> float:
    return (moment - zero) // 1000 / 1_000_000
