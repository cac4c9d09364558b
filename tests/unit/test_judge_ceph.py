"""What Ceph did: the truth lies within the bounds, and what was not asked for is not measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import TEST, Entry, S, accepted_run, chained, claim, fault, ns, samples, seen

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import ceph
from pytest_pveha.judge.facts import TestFacts, gather
from pytest_pveha.judge.measured import Measured

EVERY = 2.0
"""Seconds between two looks."""
CUT = (
    fault("plan", type="CephNetworkCut", params={"node": "pve1"}, undo={}),
    fault("inject", before=ns(0), after=ns(0.1)),
)


def asked(first: float = -20, last: float = 300, answer: str = "good", gap: float = EVERY) -> Entry:
    """Ceph was asked every other second in that time."""
    return samples("inside:ceph", answer, first, last, subject="node:ceph:inside", worst_gap=round(gap * S))


def facts(*entries: Entry, cut: tuple[Entry, ...] = CUT) -> TestFacts:
    """A fault at second 0, in a test that saw these things of Ceph; nothing is claimed yet."""
    opened = [entry for entry in accepted_run() if entry.kind in ("run.open", "test.open")]
    return gather(chained([*opened, *cut, *entries])).tests[TEST]


def noted(what: str, *changes: tuple[float, str]) -> list[Entry]:
    """What it was when first looked at, and what it became between the look before each moment and that one."""
    (at, first), *later = changes
    rows, old = [seen(what, None, first, at, at + 0.1, "ceph")], first
    for moment, new in later:
        rows.append(seen(what, old, new, moment - EVERY, moment, "ceph"))
        old = new
    return rows


def of(measure: Callable[..., Measured], *entries: Entry, params: dict[str, Any] | None = None) -> tuple[float, float]:
    """The measure's bounds."""
    found = measure(facts(asked(), *entries), "Ceph", params or {})
    assert found.high is not None
    return found.low, found.high


# --- who served ------------------------------------------------------------------------------------------------------


@given(begin=st.floats(0.1, 100), length=st.floats(0.1, 150), phase=st.floats(0, EVERY))
def test_the_outage_lies_within_its_bounds(begin: float, length: float, phase: float) -> None:
    """Whenever the looks were, the outage was as long as the measure says; one shorter than their gap may be missed."""

    def look_after(moment: float) -> float:
        return phase + EVERY * (int((moment - phase) // EVERY) + 1)

    first, last = look_after(begin), look_after(begin + length)
    rows = noted("ceph/serving", (-10, "yes"), (first, "no"), (last, "yes")) if first < last else []
    low, high = of(ceph.unserved, *rows)
    if rows:
        assert low <= length + 1e-6
        assert length - 1e-6 <= high <= length + 2 * EVERY + 1e-6
    else:
        assert (low, high) == (0, 0)


def test_of_several_outages_the_longest_counts() -> None:
    """Each stands by itself."""
    rows = noted("ceph/serving", (-10, "yes"), (10, "no"), (16, "yes"), (50, "no"), (80, "yes"))
    assert of(ceph.unserved, *rows) == (28, 32)


def test_what_was_so_before_the_fault_is_not_its_doing() -> None:
    """Of an outage that goes on since before, the part after the fault counts; one that was over by then does not."""
    assert of(ceph.unserved, *noted("ceph/serving", (-10, "no"), (12, "yes"))) == (10, 12)
    assert of(ceph.unserved, *noted("ceph/serving", (-18, "no"), (-4, "yes"))) == (0, 0)


def test_an_outage_without_an_end_lasts_until_the_last_answer() -> None:
    """Nobody saw it end."""
    assert of(ceph.unserved, *noted("ceph/serving", (-10, "yes"), (100, "no"))) == pytest.approx((200, 202), abs=0.1)


# --- what health says ------------------------------------------------------------------------------------------------

HURT = noted("ceph/hurt", (-10, "no"), (30, "yes"), (150, "no"))


@pytest.mark.parametrize(
    ("health", "silent"),
    [
        (((-10, "HEALTH_OK"),), True),
        # everything that complains is muted
        (((-10, "HEALTH_OK"), (30, "HEALTH_OK (OSD_DOWN) (PG_DEGRADED)")), True),
        # a scrub is late since last week, and that is all it says
        (((-10, "HEALTH_WARN PG_NOT_SCRUBBED"),), True),
        (((-10, "HEALTH_WARN PG_NOT_SCRUBBED"), (30, "HEALTH_WARN (OSD_DOWN) PG_NOT_SCRUBBED")), True),
        (((-10, "HEALTH_OK"), (30, "HEALTH_WARN OSD_DOWN")), False),
        (((-10, "HEALTH_OK"), (30, "HEALTH_WARN OSD_DOWN (PG_DEGRADED)")), False),
        (((-10, "HEALTH_WARN PG_NOT_SCRUBBED"), (30, "HEALTH_WARN OSD_DOWN PG_NOT_SCRUBBED")), False),
    ],
)
def test_silent_is_what_says_nothing_new(health: tuple[tuple[float, str], ...], silent: bool) -> None:
    """Muted checks and standing warnings tell nobody of an outage; one new complaint does."""
    low, high = of(ceph.silent_health, *HURT, *noted("ceph/health", *health))
    assert (low, high) == ((118, 122) if silent else (0, EVERY))


def test_health_that_wakes_up_late() -> None:
    """The time from the outage to the first complaint."""
    rows = noted("ceph/health", (-10, "HEALTH_OK"), (70, "HEALTH_WARN PG_DEGRADED"), (150, "HEALTH_OK"))
    assert of(ceph.silent_health, *HURT, *rows) == (38, 42)


def test_two_moments_that_were_not_seen_are_not_one_silence() -> None:
    """Both changed between the same two answers, 20 s apart, at the cut and at its end: silent for 20 s at the most."""
    rows = [seen("ceph/hurt", None, "no", -10, -10), seen("ceph/health", None, "HEALTH_OK", -10, -10)]
    rows += [seen("ceph/hurt", "no", "yes", 0, 20), seen("ceph/hurt", "yes", "no", 120, 140)]
    rows.append(seen("ceph/health", "HEALTH_OK", "HEALTH_WARN OSD_DOWN", 0, 20))
    rows.append(seen("ceph/health", "HEALTH_WARN OSD_DOWN", "HEALTH_OK", 120, 140))
    assert of(ceph.silent_health, *rows) == (0, 20)


def test_nothing_is_silent_while_nothing_is_hurt() -> None:
    """HEALTH_OK is what a whole Ceph says."""
    rows = [*noted("ceph/hurt", (-10, "no")), *noted("ceph/health", (-10, "HEALTH_OK"))]
    assert of(ceph.silent_health, *rows) == (0, 0)


def test_what_health_said_before_must_be_known() -> None:
    """Else nobody can tell what is new."""
    rows = noted("ceph/health", (5, "HEALTH_WARN OSD_DOWN"))
    with pytest.raises(Inconclusive, match=r"what Ceph's health said before the fault was not seen"):
        of(ceph.silent_health, *HURT, *rows)


# --- what was lost, was full, came and went --------------------------------------------------------------------------


def test_unreadable_data_is_counted_at_its_worst() -> None:
    """As it was when the fault began counts, too; what was over by then does not."""
    assert of(ceph.unreadable_data, *noted("ceph/lost", (-10, "0"), (20, "3"), (24, "1"), (30, "0"))) == (3, 3)
    assert of(ceph.unreadable_data, *noted("ceph/lost", (-10, "7"), (-5, "0"))) == (0, 0)
    assert of(ceph.unreadable_data, *noted("ceph/lost", (-10, "7"))) == (7, 7)


@pytest.mark.parametrize("measure", [ceph.unreadable_data, ceph.rebuilt])
@pytest.mark.parametrize("word", [None, "none", "-1", "", "1" * 40])
def test_a_number_that_is_none_is_not_taken_for_one(measure: Any, word: str | None) -> None:
    """Neither what was not told of placement groups nor what is no number says that all is well."""
    what = "ceph/lost" if measure is ceph.unreadable_data else "ceph/unclean"
    rows = [] if word is None else noted(what, (-10, word))
    with pytest.raises(Inconclusive, match="not heard to speak of its placement groups"):
        of(measure, *rows)


def test_each_ratio_counts_once() -> None:
    """However often it was passed."""
    rows = noted("ceph/full", (-10, "no"), (10, "OSD_BACKFILLFULL"), (14, "no"), (20, "OSD_BACKFILLFULL POOL_FULL"))
    assert of(ceph.full_ratios, *rows) == (2, 2)
    assert of(ceph.full_ratios, *noted("ceph/full", (-10, "no"))) == (0, 0)


def test_rebuilt_is_what_was_seen_last() -> None:
    """What lacked before does not count."""
    assert of(ceph.rebuilt, *noted("ceph/unclean", (-10, "0"), (10, "40"), (200, "0"))) == (0, 0)
    assert of(ceph.rebuilt, *noted("ceph/unclean", (-10, "0"), (10, "40"), (200, "2"))) == (2, 2)


def test_an_osd_may_be_lost_once_where_it_was_meant_to() -> None:
    """Each further loss is a flap, and so is each loss of another one; an OSD that came back between looks was lost."""
    mine = noted("osd/0", (-10, "up since 5"), (10, "down"), (60, "up since 9"))
    again = noted("osd/0", (-10, "up since 5"), (10, "down"), (60, "up since 9"), (90, "down"))
    unseen = noted("osd/0", (-10, "up since 5"), (10, "up since 9"), (60, "up since 12"))
    other = noted("osd/1", (-10, "up since 5"), (30, "down"))
    meant = {"osds": ["0"]}
    assert of(ceph.flaps, *mine, params=meant) == (0, 0)
    assert of(ceph.flaps, *again, params=meant) == (1, 1)
    assert of(ceph.flaps, *unseen, params=meant) == (1, 1)
    assert of(ceph.flaps, *mine, *other, params=meant) == (1, 1)
    assert of(ceph.flaps, *mine) == (1, 1)


def test_losses_of_before_are_no_flaps() -> None:
    """It went and came before anything was broken."""
    rows = noted("osd/0", (-18, "up since 5"), (-14, "down"), (-8, "up since 9"))
    assert of(ceph.flaps, *rows) == (0, 0)


def test_without_the_map_no_flap_is_counted() -> None:
    """Nobody looked at any OSD."""
    with pytest.raises(Inconclusive, match="the OSD map was not seen"):
        of(ceph.flaps)


# --- whether it was asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", ceph.MEASURES.values(), ids=list(ceph.MEASURES))
@pytest.mark.parametrize(
    ("entries", "cut", "why"),
    [
        ([asked()], (), "nothing was broken"),
        ([], CUT, "Ceph was not asked before the fault"),
        ([asked(first=1)], CUT, "Ceph was not asked before the fault"),
        ([asked(answer="bad")], CUT, "Ceph was not asked before the fault"),
        ([asked(last=20), asked(first=70)], CUT, "Ceph was not heard for 50 s"),
        ([asked(last=20), asked(21, 69, "bad"), asked(first=70)], CUT, "Ceph was not heard for 50 s"),
        ([asked(gap=46)], CUT, "Ceph was not heard for 46 s"),
        ([asked(last=-2), asked(first=44)], CUT, "Ceph was not heard for 44 s"),
    ],
)
def test_what_was_not_asked_is_not_known(
    measure: Callable[..., Measured], entries: list[Entry], cut: tuple[Entry, ...], why: str
) -> None:
    """No measure says that all was well while nobody looked; up to 45 s are forgiven, in which mons elect."""
    rows = [
        *noted("ceph/serving", (-10, "yes")),
        *noted("ceph/health", (-10, "HEALTH_OK")),
        *noted("ceph/hurt", (-10, "no")),
        *noted("ceph/lost", (-10, "0")),
        *noted("ceph/full", (-10, "no")),
        *noted("ceph/unclean", (-10, "0")),
        *noted("osd/0", (-10, "up since 5")),
    ]
    test = facts(*entries, *rows, cut=cut)
    if why.endswith("44 s"):
        assert measure(test, "Ceph", {}).high == 0
        return
    with pytest.raises(Inconclusive, match=why):
        measure(test, "Ceph", {})


def test_the_time_until_the_claim_must_have_been_watched() -> None:
    """Lines of a test are a second apart here: a claim in the fourth minute after the last answer is too late."""
    test = facts(asked(last=20), *noted("ceph/serving", (-10, "yes")), claim("unserved", "Ceph", "at_most", 30))
    test.claimed_at = ns(200)
    with pytest.raises(Inconclusive, match=r"Ceph was not heard for the last 180 s"):
        ceph.unserved(test, "Ceph", {})
    test.claimed_at = ns(60)
    assert ceph.unserved(test, "Ceph", {}).high == 0
