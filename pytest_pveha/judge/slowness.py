"""Whether guests answer more slowly than before: how long their good answers took, before the fault and after it.

Method: docs/explanation/method.md, "Answers". What did not answer is an outage, and judged as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import ceil, floor, sqrt
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import SECOND, TestFacts, Took
from pytest_pveha.judge.measured import Measured, number
from pytest_pveha.record.took import span

ENOUGH: Final = 30
"""So many answers, before and after, say how long one takes."""

QUICK: Final = 10_000_000
"""What takes less (ns) counts as that: nobody notices, and networks and controllers differ by as much."""

NEAR: Final = SECOND
"""By how much (ns) a stretch of answers may reach beyond the moment it was to end at: another process ends it."""

DEVIATIONS: Final = 3
"""Standard deviations of how many of so many answers lie below the middle."""


def answer_slowdown(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many times as long the middle answer took after the last heal as before the first fault; the worst probe's.

    Raises:
        Inconclusive: fewer than ``ENOUGH`` answers of a probe on either side.
    """
    del params
    fault = test.fault()
    if fault is None or fault.before is None:
        raise Inconclusive("the test broke nothing, so there is no before and after")
    begin = fault.before
    healed = max((each.healed_at or begin for each in test.faults), default=begin)
    end = test.claimed_at
    probes = sorted({probe for probe, (of, what, _) in test.watched.items() if of == subject and what == "tcp"})
    if not probes:
        raise Inconclusive(f"no probe of {subject} that tells how long its answers take was asked")
    found = []
    for probe in probes:
        mine = [each for each in test.took if each.probe == probe]
        before = [each for each in mine if each.until <= begin + NEAR]
        after = [each for each in mine if each.since >= healed and (end is None or each.until <= end + NEAR)]
        found.append(_ratio(_middle(before, f"{probe} before the fault"), _middle(after, f"{probe} after the heal")))
    return max(found, key=lambda each: (each.value or 0, each.low))


def _middle(stretches: Iterable[Took], whose: str) -> tuple[int, int, int]:
    """The length that half of the answers did not exceed: at least, most likely, at most (ns).

    Of n answers the middle one of all that might have been is, three standard deviations about, among those between
    the (n ∓ 3√n)/2-th: whatever way the lengths are spread.
    """
    spread: Counter[int] = Counter()
    for each in stretches:
        spread.update(each.took)
    count = sum(spread.values())
    if count < ENOUGH:
        raise Inconclusive(f"{count} answers of {whose}, {ENOUGH} are needed")
    off = DEVIATIONS * sqrt(count) / 2
    low, middle, high = (
        _at(spread, rank) for rank in (floor(count / 2 - off), ceil(count / 2), min(count, ceil(count / 2 + off) + 1))
    )
    return span(low)[0], sum(span(middle)) // 2, span(high)[1]


def _at(spread: Counter[int], rank: int) -> int:
    """The step of the answer with that rank, from 1 on."""
    left = max(1, rank)
    for steps in sorted(spread):
        left -= spread[steps]
        if left <= 0:
            return steps
    return max(spread)


def _ratio(before: tuple[int, int, int], after: tuple[int, int, int]) -> Measured:
    told = f"half of the answers within {_ms(before[1])} before, {_ms(after[1])} after"
    was, is_ = ([max(QUICK, each) for each in one] for one in (before, after))
    return Measured(is_[1] / was[1], is_[0] / was[2], is_[2] / was[0], "times", about=told)


def _ms(nanoseconds: int) -> str:
    return f"{number(nanoseconds / 1_000_000)} ms"


MEASURES: Final[Mapping[str, Callable[[TestFacts, str, Mapping[str, Any]], Measured]]] = {
    "answer_slowdown": answer_slowdown,
}

CAUSES: Final[Mapping[str, str]] = {
    "answer_slowdown": "it answers again, and takes longer than before: its node or network is slower, or full",
}
