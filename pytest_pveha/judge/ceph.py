"""What Ceph did during a test, from the journal: who served, what came and went, what was lost.

By the states of placement groups, not by health. Method: docs/explanation/method.md, "Ceph".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import SECOND, Run, Seen, TestFacts, integer, strings
from pytest_pveha.judge.measured import Measured, between, counted
from pytest_pveha.judge.sides import inside, spells_among, spells_of

BLIND: Final = 45 * SECOND
"""Longer than this (ns) without an answer of Ceph, and what it did meanwhile was not seen: mons elect in 15 s, and a
question that meets a dead node first takes as long again."""

CAUSES: Final[Mapping[str, str]] = {
    "unserved": "placement groups served nothing for longer than they take to find themselves, so disks stood still",
    "silent_health": "whoever watches its health alone does not learn of an outage",
    "unreadable_data": "data could not be read, or not be relied on",
    "full_ratios": "a ratio was passed at which Ceph takes no more writes, or stops its rebuild",
    "rebuilt": "copies are lacking still",
    "flaps": "an OSD was lost again and again, and each time its placement groups stood still",
}


def unserved(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The longest time in which a placement group served nothing, since the first fault.

    Raises:
        Inconclusive: Ceph was not asked often enough to tell.
    """
    del subject, params
    begin, until = _watched(test)
    spells = [spell for spell in spells_of(test, "ceph/serving", "no", until) if spell.end[1] >= begin]
    worst = max(spells, key=lambda spell: spell.possibly[1] - max(begin, spell.possibly[0]), default=None)
    if worst is None:
        return between(0, 0)
    surely, possibly = worst.surely, worst.possibly
    least = max(0, surely[1] - max(begin, surely[0]))
    return between(least, max(least, possibly[1] - max(begin, possibly[0])))


def silent_health(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """The longest time in which health said no more than before while OSDs were down or groups served nothing.

    What is muted (in brackets) says nothing, and a warning that stood there before tells nobody of an outage. Between
    two answers of a Ceph that elects its mons both may have changed, and two such moments, at the cut and at its end,
    are not one long silence.

    Raises:
        Inconclusive: Ceph was not asked often enough to tell.
    """
    del subject, params
    begin, until = _watched(test)
    told = _since(test, "ceph/health", begin)
    if not told or told[0].high > begin:
        raise Inconclusive("what Ceph's health said before the fault was not seen")
    usual = _complaints(told[0].new)
    silent = {each.new for each in test.seen if each.what == "ceph/health" and _complaints(each.new) <= usual}
    fine = spells_among(test, "ceph/health", silent, until)
    hurt = spells_of(test, "ceph/hurt", "yes", until)
    least = max((overlap(one.surely, other.surely, begin) for one in fine for other in hurt), default=0)
    most = max((overlap(one.possibly, other.possibly, begin) for one in fine for other in hurt), default=0)
    return between(least, max(least, most))


def _complaints(health: str) -> set[str]:
    """Of ``HEALTH_WARN OSD_DOWN (PG_DEGRADED)`` the checks that are not muted, and HEALTH_ERR."""
    return {word for word in health.split() if not word.startswith("(") and word not in ("HEALTH_OK", "HEALTH_WARN")}


def overlap(one: tuple[int, int], other: tuple[int, int], begin: int) -> int:
    """How long both were so, from that moment on (ns)."""
    return max(0, min(one[1], other[1]) - max(one[0], other[0], begin))


def unreadable_data(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many placement groups, at the most, were seen in a state in which data is lost."""
    del subject, params
    begin, _ = _watched(test)
    told = [number for each in _since(test, "ceph/lost", begin) if (number := _whole(each.new)) is not None]
    if not told:
        raise Inconclusive("Ceph was not heard to speak of its placement groups")
    return counted(max(told), max(told))


def full_ratios(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many ratios of fullness were seen passed."""
    del subject, params
    begin, _ = _watched(test)
    seen = {word for each in _since(test, "ceph/full", begin) if each.new != "no" for word in each.new.split()}
    return counted(len(seen), len(seen))


def flaps(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How often an OSD beside those that the fault took, or one of those after its first return, was lost."""
    del subject
    begin, _ = _watched(test)
    meant = set(strings(params.get("osds")))
    names = sorted({each.what for each in test.seen if each.what.startswith("osd/")})
    if not names:
        raise Inconclusive("the OSD map was not seen")
    count = 0
    for name in names:
        losses = sum(
            1
            for each in test.seen
            if each.what == name and each.old is not None and each.high >= begin and each.old.startswith("up since")
        )
        count += max(0, losses - 1) if name.removeprefix("osd/") in meant else losses
    return counted(count, count)


def rebuilt(test: TestFacts, subject: str, params: Mapping[str, Any]) -> Measured:
    """How many placement groups are not active+clean by what was last seen before the claim."""
    del subject, params
    _watched(test)
    found = sorted((each for each in test.seen if each.what == "ceph/unclean"), key=lambda each: each.high)
    last = next((number for each in reversed(found) if (number := _whole(each.new)) is not None), None)
    if last is None:
        raise Inconclusive("Ceph was not heard to speak of its placement groups")
    return counted(last, last)


def _whole(value: str) -> int | None:
    return integer(int(value)) if value.isdigit() and len(value) < 10 else None


def _since(test: TestFacts, what: str, begin: int) -> list[Seen]:
    """What it was when the fault began, and all that it became."""
    found = sorted((each for each in test.seen if each.what == what), key=lambda each: each.high)
    before = [each for each in found if each.high < begin]
    return [*before[-1:], *(each for each in found if each.high >= begin)]


def _watched(test: TestFacts) -> tuple[int, int]:
    """From the first fault on until the last answer: throughout that time Ceph was asked, and answered.

    Raises:
        Inconclusive: it was not, for so long that anything may have happened.
    """
    meant = [fault.before for fault in test.faults if fault.before is not None and not fault.trial]
    if not meant:
        raise Inconclusive("nothing was broken")
    begin = min(meant)
    good = sorted((run for run in inside(test, "ceph") if run.answer == "good"), key=lambda run: run.first)
    if not good or good[0].first > begin:
        raise Inconclusive("Ceph was not asked before the fault")
    _check_gaps(good, begin, test.claimed_at or good[-1].last_end)
    return begin, good[-1].last_end


def _check_gaps(good: list[Run], begin: int, until: int) -> None:
    last = begin
    for run in good:
        if run.last < begin:
            continue
        gap = max(run.first - last, run.worst_gap)
        if gap > BLIND:
            raise Inconclusive(f"Ceph was not heard for {gap / SECOND:.0f} s")
        last = max(last, run.last)
    if until - last > BLIND:
        raise Inconclusive(f"Ceph was not heard for the last {(until - last) / SECOND:.0f} s")


MEASURES: Final[Mapping[str, Callable[[TestFacts, str, Mapping[str, Any]], Measured]]] = {
    "unserved": unserved,
    "silent_health": silent_health,
    "unreadable_data": unreadable_data,
    "full_ratios": full_ratios,
    "flaps": flaps,
    "rebuilt": rebuilt,
}
