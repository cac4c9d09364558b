"""What became of numbered writes: lost ones, stalls, two lives at once, and whether they are slower than before.

Method: docs/explanation/method.md, "Writes". All times of a guest are its own uptime; where they stand in ours follows
from the readings, each of which told the uptime between two moments of ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import sqrt
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import SECOND, TestFacts, integer, text
from pytest_pveha.judge.measured import Measured, at_least, counted, number, seconds_down, seconds_up
from pytest_pveha.judge.sides import spells_of

STEP: Final = 10_000_000
"""In which an uptime is told (ns), cut off: proc(5)."""

FRESH: Final = 5 * SECOND
"""The last reading before a fault is at most this old (ns)."""

ENOUGH: Final = 30
"""So many writes, before and after, say how long one takes."""

NEAR: Final = 8
"""So many readings on either side say together where the guest's clock stood."""

RATE: Final = 0.001
"""By how much of itself a time may differ between the guest and us: a clock is slewed by 500 ppm at most (adjtimex(2)).
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of one incarnation's writes."""

    asked: int
    answered: int
    uptime: int | None
    """The incarnation's uptime when it was read; None where another one lives by now."""
    acknowledged: int
    failed: int
    broken: int
    first_ack: int | None
    last_ack: int | None
    gaps: Mapping[int, int]
    took: Mapping[int, int]
    long: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Life:
    """One incarnation, in the order of its readings."""

    name: str
    readings: list[Reading] = field(default_factory=list)

    def offset(self) -> tuple[int, int]:
        """By how much our clock is ahead of its uptime (ns): at least, at most, over all readings."""
        told = [(each.asked - each.uptime - STEP, each.answered - each.uptime) for each in self.seen]
        return min(low for low, _ in told), max(high for _, high in told)

    @property
    def seen(self) -> list[_Seen]:
        """The readings that told its uptime."""
        return [_Seen(each.asked, each.answered, each.uptime) for each in self.readings if each.uptime is not None]

    def ours(self, uptime: int) -> tuple[int, int]:
        """Between which moments of ours that was, by the readings nearest to it; further off, the clocks may differ."""
        near = min(self.seen, key=lambda each: abs(each.uptime - uptime))
        astray = round(abs(near.uptime - uptime) * RATE)
        offset = uptime - near.uptime
        return near.asked + offset - STEP - astray, near.answered + offset + STEP + astray


@dataclass(frozen=True, slots=True)
class _Seen:
    asked: int
    answered: int
    uptime: int


def lost_writes(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many writes that were read back as durable were not there when looked for, after the fault or before it.

    A write whose chain was broken counts too: what it says is not what was written.
    """
    del params
    begin = _begin(test)
    lives = _lives(test, subject)
    before = [each.answered for life in lives for each in life.readings if each.answered <= begin and each.last_ack]
    if not before:
        raise Inconclusive(f"no write of {subject} was read back before the fault{_why(test, subject)}")
    old = begin - max(before)
    if old > FRESH:
        raise Inconclusive(
            f"its writes were read back last {seconds_up(old):.1f} s before the fault, which is too early to tell"
        )
    checks = _looked(test, subject, begin)
    lost = sum(max(0, integer(each.get("lost")) or 0) for each in checks)
    broken = sum(each.broken for life in lives for each in life.readings)
    durable = max((integer(each.get("durable")) or 0) for each in checks)
    found = counted(lost + broken, lost + broken)
    told = f"of {durable} that were durable" + (f", {broken} of them changed" if broken else "")
    return Measured(found.value, found.low, found.high, "count", about=told)


def data_loss(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """Seconds of acknowledged writes that are gone: up to the fault at most, up to the last one read back at least.

    With ``copy`` in the parameters it is of that copy, up to when it was looked for first.
    """
    copy = text(params.get("copy"))
    begin = _begin(test) if not copy else 0
    found = [
        each
        for each in _events(test, subject, "copy" if copy else "check")
        if _at(each, "asked") >= begin and (not copy or text(each.get("copy")) == copy)
    ]
    if not found:
        raise Inconclusive(f"its writes were not looked for{' in ' + copy if copy else ' after the fault'}")
    worst = max(found, key=lambda each: integer(each.get("lost")) or 0)
    life = {each.name: each for each in _lives(test, subject)}.get(text(worst.get("kept_of")))
    kept, last = integer(worst.get("kept_ack")), integer(worst.get("last_ack"))
    if life is None or kept is None or last is None or not life.seen:
        raise Inconclusive(f"when the last write of {subject} that is left was made cannot be told")
    if copy:
        low, high = life.ours(kept)
        end = _at(worst, "since") if "since" in worst else _at(worst, "asked")
        return Measured(None, seconds_down(max(0, end - high)), seconds_up(max(0, end - low)), "s")
    fault = test.fault()
    bounds = None if fault is None else fault.bounds
    if bounds is None:
        raise Inconclusive("when the fault took effect was not seen")
    surely = max(0, last - kept) if text(worst.get("of")) == life.name and worst.get("lost") else 0
    kept_low, _ = life.ours(kept)
    rest = _acks_after(life, kept, bounds[1]) if not worst.get("lost") else kept_low
    return Measured(None, seconds_down(surely), seconds_up(max(surely, bounds[1] - rest)), "s")


def _acks_after(life: Life, kept: int, end: int) -> int:
    """When, at the earliest, the last write was acknowledged that is there and was read by then or later."""
    acks = [each.last_ack for each in life.readings if each.last_ack is not None and each.last_ack >= kept]
    return min(end, max((life.ours(ack)[0] for ack in acks), default=life.ours(kept)[0]))


def write_stall(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The longest time without an acknowledged write since the fault, within one life of the guest, in seconds.

    A guest that stood still has a clock that stood still: how much later it is by ours is added. A clock that jumped
    is no stall: what our clock cannot have seen pass is taken off.
    """
    del params
    fault = test.fault()
    begin = 0 if fault is None or fault.before is None else fault.before
    worst: Measured | None = None
    spread: Counter[int] = Counter()
    for life in _lives(test, subject):
        for index, each in enumerate(life.readings):
            if each.answered > begin:
                spread.update(each.gaps)
                found = _longest(each, _drift(life.readings, index), life, begin)
                if found is not None and (worst is None or (found.low, found.high or 0) > (worst.low, worst.high or 0)):
                    worst = found
    if worst is None:
        raise Inconclusive(f"no write of {subject} was read back since the fault{_why(test, subject)}")
    told = ""
    if count := sum(spread.values()):
        half, most = _share(spread, 0.5), _share(spread, 0.99)
        told = f"of {count} writes half came within {half:.2f} s of the one before, 99 % within {most:.2f} s"
    if worst.censored or any(_at(each, "asked") >= begin for each in _events(test, subject, "check")):
        return Measured(worst.value, worst.low, worst.high, "s", worst.censored, told)
    return Measured(None, worst.low, None, "s", about=f"it was not read to the end{_why(test, subject)}")


def _longest(each: Reading, drift: tuple[int, int], life: Life, begin: int) -> Measured | None:
    """The longest gap in one reading; None where it tells of none since the fault."""
    low_off, high_off = drift
    gaps = [stop - start for start, stop in each.long if life.seen and life.ours(stop)[1] >= begin]
    short = max((gap for gap in each.gaps if gap * STEP < SECOND), default=0) * STEP
    gap = max([*gaps, short])
    open_gap = 0 if each.uptime is None or each.last_ack is None else each.uptime - each.last_ack
    if not each.gaps and not open_gap:
        return None
    if low_off > SECOND:  # it stood still for so long, beside what its own clock counted
        return Measured(None, seconds_down(max(low_off, gap)), seconds_up(gap + high_off + STEP), "s")
    if open_gap > max(gap, SECOND) and each is life.readings[-1]:  # else the next reading has it whole
        return at_least(max(0, open_gap + min(0, low_off)))
    low, high = max(0, gap + min(0, low_off) - STEP), gap + max(0, high_off) + STEP
    return Measured(seconds_down((low + high) // 2), seconds_down(low), seconds_up(high), "s")


def _drift(readings: list[Reading], index: int) -> tuple[int, int]:
    """How much more our clock went than the guest's since the reading before: at least, at most (ns)."""
    before = [each for each in readings[:index] if each.uptime is not None][::-1]
    after = [each for each in readings[index:] if each.uptime is not None]
    if not before or not after or after[0] is not readings[index]:
        return 0, 0
    was_low, was_high = _ahead(before)
    is_low, is_high = _ahead(after)
    return is_low - was_high, is_high - was_low


def _ahead(readings: list[Reading]) -> tuple[int, int]:
    """By how much our clock is ahead of the guest's at the first of these: at least, at most (ns).

    The others say so more closely, as far as they agree: one that was answered at once knows it best.
    """
    first = readings[0]
    low, high = -(1 << 62), 1 << 62
    for each in readings[:NEAR]:
        assert each.uptime is not None
        assert first.uptime is not None
        astray = round(abs(each.uptime - first.uptime) * RATE)
        least, most = each.asked - each.uptime - STEP - astray, each.answered - each.uptime + astray
        if max(low, least) > min(high, most):
            break
        low, high = max(low, least), min(high, most)
    return low, high


def double_runs(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many pairs of the guest's lives overlapped: the earlier one wrote when the later one had written already."""
    del params
    lives = [life for life in _lives(test, subject) if any(each.first_ack is not None for each in life.readings)]
    if not lives:
        raise Inconclusive(f"no write of {subject} was read back{_why(test, subject)}")
    _looked(test, subject, _begin(test))
    surely = perhaps = 0
    for one, other in combinations(lives, 2):
        if not one.seen or not other.seen:
            perhaps += 1  # nobody ever asked the one while it lived
            continue
        (one_from, one_to), (other_from, other_to) = _span(one), _span(other)
        surely += max(one_from[1], other_from[1]) < min(one_to[0], other_to[0])
        perhaps += max(one_from[0], other_from[0]) < min(one_to[1], other_to[1])
    return counted(surely, max(surely, perhaps))


def _span(life: Life) -> tuple[tuple[int, int], tuple[int, int]]:
    """Between which moments of ours its first and its last acknowledged writes were."""
    firsts = [each.first_ack for each in life.readings if each.first_ack is not None]
    lasts = [each.last_ack for each in life.readings if each.last_ack is not None]
    return life.ours(min(firsts)), life.ours(max(lasts))


def write_slowdown(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many times as long a write takes after the last heal as before the first fault.

    Where Ceph was watched, after it had made its copies again: until then it is ``rebuild_slowdown``.
    """
    del params
    begin = _begin(test)
    healed = max((fault.healed_at or begin for fault in test.faults), default=begin)
    after = [each for each, span in _told_of(test, subject) if each.answered > healed and not _rebuilt(test, span)]
    return _slower(test, subject, after, "after the heal", "after")


def rebuild_slowdown(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many times as long a write takes while Ceph makes copies as before the first fault.

    Raises:
        Inconclusive: no copies were seen being made, or too few writes were read back that were made meanwhile.
    """
    del params
    begin = _begin(test)
    if not any(surely[1] > max(begin, surely[0]) for surely, _ in _rebuilds(test)):
        raise Inconclusive("Ceph was not seen to make copies since the fault")
    meanwhile = [each for each, span in _told_of(test, subject) if span[0] >= begin and _rebuilt(test, span, all_=True)]
    return _slower(test, subject, meanwhile, "while Ceph made copies", "meanwhile")


def _slower(test: TestFacts, subject: str, readings: list[Reading], when: str, word: str) -> Measured:
    begin = _begin(test)
    first = [each for life in _lives(test, subject) for each in life.readings if each.answered <= begin]
    before = _mean(first, subject, "before the fault")
    after = _mean(readings, subject, when)
    low = max(0.0, after[0] - after[1]) / (before[0] + before[1])
    least = before[0] - before[1]
    high = None if least <= 0 else (after[0] + after[1]) / least
    told = f"{number(before[0] * 1000)} ms before, {number(after[0] * 1000)} ms {word}"
    return Measured(after[0] / before[0] if before[0] else None, low, high, "times", about=told)


def _told_of(test: TestFacts, subject: str) -> list[tuple[Reading, tuple[int, int]]]:
    """Each reading, and between which moments of ours what it tells of was acknowledged.

    What an incarnation's first reading tells of began we do not know when.
    """
    return [
        (each, (readings[index - 1].asked if index else 0, each.answered))
        for life in _lives(test, subject)
        for readings in [life.readings]
        for index, each in enumerate(readings)
    ]


def _rebuilds(test: TestFacts) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """When Ceph made copies: surely, and possibly."""
    until = max((each.high for each in test.seen), default=0)
    last = max((run.last_end for run in test.runs if run.subject == "node:ceph:inside"), default=until)
    return [(spell.surely, spell.possibly) for spell in spells_of(test, "ceph/rebuilding", "yes", max(until, last))]


def _rebuilt(test: TestFacts, span: tuple[int, int], *, all_: bool = False) -> bool:
    """Whether Ceph made copies in that time: possibly in some of it, or surely in all of it."""
    if all_:
        return any(surely[0] <= span[0] and span[1] <= surely[1] for surely, _ in _rebuilds(test))
    return any(possibly[0] < span[1] and span[0] < possibly[1] for _, possibly in _rebuilds(test))


def _mean(readings: list[Reading], subject: str, when: str) -> tuple[float, float]:
    """How long a write took on average, in seconds, and by how much that may be wrong: three standard errors."""
    spread: Counter[int] = Counter()
    for each in readings:  # one that hung is a stall, and judged as one
        spread.update({size: times for size, times in each.took.items() if size * STEP < SECOND})
    count = sum(spread.values())
    if count < ENOUGH:
        raise Inconclusive(f"{count} writes of {subject} were read back {when}, {ENOUGH} are needed")
    mean = sum(value * times for value, times in spread.items()) / count
    variance = sum((value - mean) ** 2 * times for value, times in spread.items()) / count
    # both ends are cut off to a step, alike: what that makes wrong is as often too much as too little
    return mean / 100, 3 * sqrt((variance + 1 / 6) / count) / 100


def _share(spread: Counter[int], part: float) -> float:
    """The value, in seconds, that so great a part does not exceed."""
    left = part * sum(spread.values())
    for value in sorted(spread):
        left -= spread[value]
        if left <= 0:
            break
    return (value + 1) / 100


def _looked(test: TestFacts, subject: str, begin: int) -> list[dict[str, Any]]:
    """Every look for what was durable; one of them was after the fault, when whatever became of the guest was over."""
    checks = _events(test, subject, "check")
    if not any(_at(each, "asked") >= begin for each in checks):
        raise Inconclusive(f"its writes were not looked for after the fault{_why(test, subject)}")
    return checks


def _begin(test: TestFacts) -> int:
    fault = test.fault()
    if fault is None or fault.before is None:
        raise Inconclusive("the test broke nothing, so there is no before and after")
    return fault.before


def _events(test: TestFacts, subject: str, event: str) -> list[dict[str, Any]]:
    return [each for each in test.ledger if text(each.get("guest")) == subject and text(each.get("event")) == event]


def _at(line: Mapping[str, Any], key: str) -> int:
    return integer(line.get(key)) or 0


def _why(test: TestFacts, subject: str) -> str:
    """What kept us from reading, for the end of a sentence."""
    silent = _events(test, subject, "silent")
    if silent:
        return f": {text(silent[-1].get('saw'))[:300]}"
    return "" if any(text(each.get("guest")) == subject for each in test.ledger) else ": it was not watched"


def _lives(test: TestFacts, subject: str) -> list[Life]:
    """The guest's incarnations, in the order in which they were read first."""
    found: dict[str, Life] = {}
    for line in _events(test, subject, "read"):
        name = text(line.get("of"))
        if name:
            found.setdefault(name, Life(name)).readings.append(_reading(line))
    return list(found.values())


def _reading(line: Mapping[str, Any]) -> Reading:
    def whole(key: str) -> int:
        return max(0, integer(line.get(key)) or 0)

    return Reading(
        asked=_at(line, "asked"),
        answered=_at(line, "answered"),
        uptime=integer(line.get("uptime")) if line.get("mine") is True else None,
        acknowledged=whole("acknowledged"),
        failed=whole("failed"),
        broken=whole("broken"),
        first_ack=integer(line.get("first_ack")),
        last_ack=integer(line.get("last_ack")),
        gaps=_spread(line.get("gaps")),
        took=_spread(line.get("took")),
        long=tuple((start, stop) for start, stop in _pairs(line.get("long")) if start <= stop),
    )


def _pairs(value: object) -> list[tuple[int, int]]:
    rows = value if isinstance(value, list) else []
    found = []
    for row in rows:
        if isinstance(row, list) and len(row) == 2:
            left, right = integer(row[0]), integer(row[1])
            if left is not None and right is not None:
                found.append((left, right))
    return found


def _spread(value: object) -> dict[int, int]:
    return {size: count for size, count in _pairs(value) if size >= 0 and 0 < count < 1 << 40}


MEASURES: Final[Mapping[str, Callable[[TestFacts, str, Mapping[str, Any]], Measured]]] = {
    "lost_writes": lost_writes,
    "data_loss": data_loss,
    "write_stall": write_stall,
    "double_runs": double_runs,
    "write_slowdown": write_slowdown,
    "rebuild_slowdown": rebuild_slowdown,
}

CAUSES: Final[Mapping[str, str]] = {
    "lost_writes": "writes that the guest had been told are on the disk are gone: they were kept in a memory that does "
    "not outlive its power, or another disk took the place of its own",
    "data_loss": "more of what was written is gone than the site promises to lose at most",
    "write_stall": "its writes hung too long, though the guest itself lived",
    "double_runs": "the guest lived twice at the same time, and both wrote",
    "write_slowdown": "after the recovery its writes take longer than before",
    "rebuild_slowdown": "its writes wait for the rebuild, which takes more of the OSDs than it may",
}
