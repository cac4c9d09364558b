"""How long things took, from the samples and the fault's own bounds. Method: docs/explanation/method.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import SECOND, Fault, Run, TestFacts, known
from pytest_pveha.judge.measured import Measured, at_least, between, seconds_down, seconds_up
from pytest_pveha.judge.outages import Outage, hidden, outages

LASTING: Final = 10 * SECOND
"""Good answers for this long (ns), or until the samples end, are a lasting recovery."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """The first lasting good answer after a fault came between these moments (mono ns); ``high`` None: never seen."""

    low: int
    high: int | None


def effect_of(test: TestFacts) -> tuple[Fault, int, int]:
    """The test's fault, and between which moments (mono ns) it took effect.

    Raises:
        Inconclusive: there is no fault, or when it took effect was not seen.
    """
    fault = test.fault()
    if fault is None:
        raise Inconclusive("the test broke nothing, so there is nothing to measure from")
    bounds = fault.bounds
    if bounds is None:
        raise Inconclusive(f"when {fault.fault} took effect was not seen")
    return fault, bounds[0], bounds[1]


def recovery_time(test: TestFacts, subject: str) -> Measured:
    """From the fault taking effect to the first lasting good answer of every probe of the subject, in seconds.

    Raises:
        Inconclusive: not watched before the fault, no outage seen, or a gap of two periods at an end of it.
    """
    _, low, high = effect_of(test)
    found = recovery(test, subject)
    if found.high is None:
        return at_least(max(0, found.low - high))
    return between(max(0, found.low - high), max(0, found.high - low))


def recovery(test: TestFacts, subject: str) -> Recovery:
    """When the subject had lastingly recovered: the last of its probes to do so."""
    fault, low, high = effect_of(test)
    begin = low if fault.before is None else fault.before
    probes = _probes(test, subject)
    found = [_probe_recovery(name, runs, (begin, low, high), test.limit(name)) for name, runs in probes.items()]
    ends = [each.high for each in found]
    return Recovery(
        low=max(each.low for each in found),
        high=None if any(end is None for end in ends) else max(end for end in ends if end is not None),
    )


def _probes(test: TestFacts, subject: str) -> dict[str, list[Run]]:
    probes = test.probes(subject)
    if not probes:
        raise Inconclusive(f"{subject} was not watched")
    for name, runs in probes.items():
        if not known(runs):
            raise Inconclusive(f"probe {name} gave no usable answer")
    return probes


def _probe_recovery(probe: str, runs: Sequence[Run], effect: tuple[int, int, int], limit: int) -> Recovery:
    begin, low, high = effect
    answers = known(runs)
    _good_before(probe, answers, begin, limit)
    first_bad = next((at for at, run in enumerate(answers) if run.answer == "bad" and run.last >= begin), None)
    if first_bad is None:
        raise Inconclusive(f"probe {probe} saw no outage after the fault: it does not watch what was broken")
    bad, stretch = _lasting_stretch(answers, first_bad, high)
    if not stretch:
        return Recovery(bad.last, None)
    gap = stretch[0].first - bad.last_end
    if gap > limit:
        raise Inconclusive(f"probe {probe} was not asked for {seconds_up(gap):.1f} s just when it recovered")
    end = _surely_good(probe, stretch, limit)
    if end < low:
        raise Inconclusive(f"probe {probe} saw no outage after the fault took effect, only before")
    return Recovery(bad.last, end)


def _good_before(probe: str, answers: Sequence[Run], begin: int, limit: int) -> None:
    before = [run for run in answers if run.first < begin]
    if not before:
        raise Inconclusive(f"probe {probe} was not asked before the fault")
    last = before[-1]
    if last.answer != "good":
        raise Inconclusive(f"probe {probe} did not answer before the fault already ({last.saw})")
    following = next((run for run in answers if run.first >= begin), None)
    silent = (begin if following is None else following.first) - last.last_end
    if last.last < begin and silent > limit:
        raise Inconclusive(f"probe {probe} was not asked for {seconds_up(silent):.1f} s around the fault")


def _lasting_stretch(answers: Sequence[Run], first_bad: int, effect_high: int) -> tuple[Run, list[Run]]:
    """The good runs that are the lasting recovery (none if it never came), and the bad run before them.

    A stretch that began before the fault surely bit, and did not last to the end, is none: it may be from before.
    """
    bad = answers[first_bad]
    stretch: list[Run] = []
    for run in answers[first_bad + 1 :]:
        if run.answer == "good":
            stretch.append(run)
            continue
        if stretch and stretch[0].first > effect_high and stretch[-1].last - stretch[0].first >= LASTING:
            return bad, stretch
        bad, stretch = run, []
    return bad, stretch


def _surely_good(probe: str, stretch: Sequence[Run], limit: int) -> int:
    """The end of the first answer after which ten seconds were watched without a gap."""
    start = stretch[0]
    for left, right in pairwise(stretch):
        if left.last - start.first < LASTING and right.first - left.last_end > limit:
            start = right
    for run in stretch:
        if start.first <= run.first < start.first + LASTING and run.worst_gap > limit:
            raise Inconclusive(
                f"probe {probe} was not asked for {seconds_up(run.worst_gap):.1f} s at a time after it recovered"
            )
    return start.first_end


def downtime(test: TestFacts, subject: str) -> Measured:
    """How long the subject was away in all since the fault was injected, in seconds; away = any of its probes bad.

    Raises:
        Inconclusive: not watched, or a gap of two periods at an end of an outage.
    """
    fault = test.fault()
    begin = None if fault is None else fault.before
    low = high = 0
    spans: list[tuple[int, int]] = []
    worst_gap = 0
    for name, runs in _probes(test, subject).items():
        limit = test.limit(name)
        answers = known(runs)
        if begin is not None and answers[0].first >= begin:
            raise Inconclusive(f"probe {name} was not asked before the fault")
        found = [each for each in outages(runs, limit) if begin is None or each.end_low >= begin]
        if any(each.end_high is None for each in found):
            return at_least(sum(each.low for each in found))
        low = max(low, sum(_covered(name, each).low for each in found))
        spans += [(each.start_low, each.end_high) for each in found if each.start_low is not None and each.end_high]
        spans += [span for span in hidden(runs, limit) if begin is None or span[1] >= begin]
        worst_gap = max(worst_gap, *(run.worst_gap for run in answers))
    high = _length(spans)
    if not spans:  # an outage shorter than the gap between two answers would not have been seen
        return Measured(0, 0, seconds_up(worst_gap), "s")
    return Measured(seconds_down((low + high) // 2), seconds_down(low), seconds_up(high), "s")


def _covered(probe: str, outage: Outage) -> Outage:
    if not (outage.covered_start and outage.covered_end):
        end = "start" if not outage.covered_start else "end"
        raise Inconclusive(f"probe {probe} was not asked for more than two periods at the {end} of an outage")
    return outage


def _length(spans: list[tuple[int, int]]) -> int:
    """How much time the spans cover together."""
    total, reached = 0, None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        total += max(0, end - begin)
        reached = end if reached is None else max(reached, end)
    return total
