"""Whether guests answer more slowly than before: honest bounds, and no value from too few answers."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import TEST, Entry, accepted_run, chained, ns

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge.facts import TestFacts, gather
from pytest_pveha.judge.measured import Measured, compare
from pytest_pveha.judge.slowness import ENOUGH, QUICK, answer_slowdown
from pytest_pveha.record.took import counts, span, step

MS = 1_000_000
SID = "vm:101"
PROBE = "tcp:vm:101"
BEFORE, AFTER = (-15.0, -2.0), (480.0, 490.0)
"""Seconds about the fault; the builder's fault is healed before the latter."""


def took(when: tuple[float, float], answers: dict[int, int], probe: str = PROBE) -> Entry:
    """So many answers of each length in steps of 0.1 ms, between these moments."""
    data = {"probe": probe, "subject": SID, "since": ns(when[0]), "until": ns(when[1]), "took": counts(answers)}
    return Entry("took", data, TEST)


def facts(*entries: Entry) -> TestFacts:
    """An accepted run with these, and healed long before they end."""
    run = [entry for entry in accepted_run() if entry.kind not in ("claim", "test.close", "run.close")]
    found = gather(chained([*run, *entries])).tests[TEST]
    for fault in found.faults:
        fault.healed_at = ns(400)
    return found


def measured(*entries: Entry) -> Measured:
    """The slowdown of the guest with these."""
    return answer_slowdown(facts(*entries), SID, {})


def test_a_slow_guest_is_slower_with_bounds() -> None:
    """60 ms after less than one is six times the 10 ms that everybody is given, and misses the objective."""
    found = measured(took(BEFORE, {2: 90, 3: 10}), took(AFTER, {600: 55, 610: 5}))
    assert found.value is not None
    assert 6 <= found.low <= found.value <= (found.high or 0) < 6.3
    assert compare(found, "at_most", 1.5)[0] == "rejected"
    assert found.about == "half of the answers within 0.2 ms before, 60.5 ms after"


def test_what_nobody_notices_is_no_slowdown() -> None:
    """Ten times as long is nothing where it is below 10 ms; a third of 120 ms more is within the objective."""
    assert measured(took(BEFORE, {2: 60}), took(AFTER, {20: 60})).high == 1
    found = measured(took(BEFORE, {1200: 100}), took(AFTER, {1600: 100}))
    assert compare(found, "at_most", 1.5)[0] == "accepted"


def test_an_error_bar_across_the_objective_is_inconclusive() -> None:
    """Where about half of the answers are slow, it cannot be told."""
    found = measured(took(BEFORE, {2: 100}), took(AFTER, {2: 52, 600: 48}))
    assert found.low == 1
    assert compare(found, "at_most", 1.5)[0] == "inconclusive"


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([took(AFTER, {2: 60})], f"0 answers of {PROBE} before the fault, {ENOUGH} are needed"),
        ([took(BEFORE, {2: 60})], f"0 answers of {PROBE} after the heal"),
        ([took(BEFORE, {2: 60}), took(AFTER, {2: ENOUGH - 1})], f"{ENOUGH - 1} answers of {PROBE} after the heal"),
        ([took(BEFORE, {2: 60}), took((390.0, 490.0), {2: 60})], "0 answers of"),
        ([took((-15.0, 30.0), {2: 60}), took(AFTER, {2: 60})], "0 answers of"),
        ([took(BEFORE, {2: 60}), took(AFTER, {2: 60}, "tcp:vm:102")], "0 answers of"),
    ],
    ids=["nothing-before", "nothing-after", "one-too-few", "begun-before-the-heal", "ended-in-the-fault", "another's"],
)
def test_too_few_answers_tell_nothing(entries: list[Entry], why: str) -> None:
    """Each side needs enough answers of its own."""
    with pytest.raises(Inconclusive, match=why):
        measured(*entries)


def test_what_comes_after_the_claims_does_not_count() -> None:
    """The site is put back then: guests move, and answer more slowly meanwhile."""
    found = facts(took(BEFORE, {2: 60}), took(AFTER, {2: 60}), took((490.0, 600.0), {900: 500}))
    found.claimed_at = ns(490)
    assert answer_slowdown(found, SID, {}).high == 1


def test_of_several_probes_the_worst_counts() -> None:
    """One port that is slow makes a slow guest."""
    second = f"{PROBE}:2"
    watch = Entry("watch", {"probe": second, "subject": SID, "what": "tcp", "period_ms": 1000}, TEST)
    fine = [took(BEFORE, {2: 60}), took(AFTER, {2: 60})]
    found = measured(watch, *fine, took(BEFORE, {2: 60}, second), took(AFTER, {400: 60}, second))
    assert found.low >= 4
    with pytest.raises(Inconclusive):
        measured(watch, *fine)


@pytest.mark.parametrize("took", [[[1]], [["1", 2]], [[-1, 2]], [[1, 0]], "all", [[1, 1 << 50]]])
def test_a_line_that_cannot_be_used_spoils_the_test(took: object) -> None:
    """What is no count is named, and never guessed."""
    data = {"probe": PROBE, "subject": SID, "since": ns(-5), "until": ns(-1), "took": took}
    found = facts(Entry("took", data, TEST))
    assert found.took == []
    assert any("(took) cannot be used" in each for each in found.spoilt)


@given(st.integers(0, 100 * MS * 100))
def test_a_step_contains_what_it_stands_for(length: int) -> None:
    """Whatever took so long lies within its step, which is at most a tenth of it wide, or 0.1 ms."""
    low, high = span(step(length))
    assert low <= length < high
    assert high - low <= max(100_000, low // 10)


@given(
    st.lists(st.integers(0, 500 * MS), min_size=ENOUGH, max_size=200),
    st.lists(st.integers(0, 500 * MS), min_size=ENOUGH, max_size=200),
)
def test_the_bounds_hold_the_samples_own_ratio(before: list[int], after: list[int]) -> None:
    """Whatever the answers were, the ratio of their middles lies within the bounds."""

    def spread(lengths: list[int]) -> dict[int, int]:
        steps = [step(each) for each in lengths]
        return {each: steps.count(each) for each in set(steps)}

    found = measured(took(BEFORE, spread(before)), took(AFTER, spread(after)))
    was, is_ = (max(QUICK, statistics.median_low(lengths)) for lengths in (before, after))
    assert found.high is not None
    assert found.low <= is_ / was <= found.high
