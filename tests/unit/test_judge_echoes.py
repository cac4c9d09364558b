"""The ways between rooms as the judge sees them: all of them with honest bounds, or no verdict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_builder import TEST, Entry, S, accepted_run, chained

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import echoes, steps
from pytest_pveha.judge.facts import TestFacts, gather
from pytest_pveha.judge.measured import compare

WAYS = [["n1", "n3"], ["n3", "n1"]]
ALL = {"ways": WAYS}
EVEN = [1.0 + number % 7 / 100 for number in range(400)]


def line(source: str, target: str, **changes: Any) -> Entry:
    """A way on which 400 of 400 echoes came back after a good millisecond."""
    told = {"source": source, "target": target, "address": "10.0.0.9", "rooms": ["a", "b"], "sent": 400, "times": EVEN}
    more = {"before": S, "after": 21 * S, "ring_average": 1.1, "ring_longest": 1.5, "saw": ""}
    return Entry("echo", {**told, **more, **changes}, TEST)


def facts(*odd: Entry) -> TestFacts:
    """All ways good but for those."""
    others = {(entry.data["source"], entry.data["target"]) for entry in odd}
    good = [line(*way) for way in WAYS if tuple(way) not in others]
    return gather(chained([*accepted_run(), *good, *odd])).tests[TEST]


def test_good_ways_are_measured() -> None:
    """The slowest, the most uneven and the worst way, each with its bounds and its name."""
    test = facts(line("n3", "n1", times=[each + 1 for each in EVEN]))
    assert test.spoilt == []
    slow = echoes.round_trip(test, "cluster", ALL)
    assert (slow.low, slow.value, slow.high, slow.unit) == (2.06, 2.06, 2.06, "ms")
    assert slow.about == "n3 → n1 (10.0.0.9), half of them within 2 ms; the slowest of 2 ways"
    uneven = echoes.jitter(test, "cluster", ALL)
    assert 0.01 <= uneven.low <= (uneven.value or 0) <= (uneven.high or 0) < 0.03
    assert echoes.packet_loss(test, "cluster", ALL).high == 0
    assert echoes.ring_latency(test, "cluster", ALL).value == 1.1


def test_one_late_echo_leaves_the_bound_open_and_many_do_not() -> None:
    """One of 400 above the objective is across it; a dozen are beyond it."""
    once = echoes.round_trip(facts(line("n1", "n3", times=[*EVEN[:399], 9.0])), "", ALL)
    assert (once.value, once.high) == (1.06, 9.0)
    assert compare(once, "at_most", 5)[0] == "inconclusive"
    often = echoes.round_trip(facts(line("n1", "n3", times=[*EVEN[:388], *[9.0] * 12])), "", ALL)
    assert compare(often, "at_most", 5)[0] == "rejected"


def test_too_few_have_no_upper_bound() -> None:
    """With less than 368 values nothing bounds the 99th of a hundred from above."""
    found = echoes.round_trip(facts(line("n1", "n3", sent=367, times=EVEN[:367])), "", ALL)
    assert found.high is None
    assert compare(found, "at_most", 5)[0] == "inconclusive"
    assert echoes.round_trip(facts(line("n1", "n3", sent=368, times=EVEN[:368])), "", ALL).high is not None


def test_lost_echoes_are_counted() -> None:
    """Of those that were sent, exactly; it rejects where none may be lost."""
    found = echoes.packet_loss(facts(line("n1", "n3", times=EVEN[:398])), "", ALL)
    assert (found.low, found.high) == (0.5, 0.5)
    assert found.about == "n1 → n3 (10.0.0.9), 2 of 400; the worst of 2 ways"
    assert compare(found, "at_most", 0)[0] == "rejected"


@pytest.mark.parametrize("measure", [echoes.round_trip, echoes.jitter, echoes.packet_loss, echoes.ring_latency])
def test_a_way_that_lacks_is_no_good_way(measure: Any) -> None:
    """Not asked, not to be asked, or no way named at all: nobody can tell."""
    with pytest.raises(Inconclusive, match=r"n1 → n9: was not asked"):
        measure(facts(), "", {"ways": [*WAYS, ["n1", "n9"]]})
    with pytest.raises(Inconclusive, match=r"n1 → n3 \(10\.0\.0\.9\): ping: not found"):
        measure(facts(line("n1", "n3", sent=0, times=[], saw="ping: not found")), "", ALL)
    for params in ({}, {"ways": "n1"}, {"ways": [["n1"]]}):
        with pytest.raises(Inconclusive, match="names no way"):
            measure(facts(), "", params)


def test_nothing_came_back() -> None:
    """All lost is a loss of all, and no round trip."""
    test = facts(line("n1", "n3", times=[]))
    assert echoes.packet_loss(test, "", ALL).low == 100
    with pytest.raises(Inconclusive, match="none of 400 echoes came back"):
        echoes.round_trip(test, "", ALL)
    with pytest.raises(Inconclusive, match="too few to compare"):
        echoes.jitter(test, "", ALL)
    with pytest.raises(Inconclusive, match="corosync on n1 does not say how far n3 is"):
        echoes.ring_latency(facts(line("n1", "n3", ring_average=None)), "", ALL)


@pytest.mark.parametrize(
    "changes", [{"times": "1.0"}, {"times": [None]}, {"times": [-1.0]}, {"sent": 3}, {"address": None, "sent": "4"}]
)
def test_a_line_that_cannot_be_is_named(changes: dict[str, Any]) -> None:
    """It counts for nothing, and its test knows."""
    test = facts(line("n1", "n3", **changes))
    assert len(test.spoilt) == 1
    assert len(test.echoes) == 1


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=600))
def test_the_bounds_enclose_the_value(times: list[float]) -> None:
    """Whatever was measured: low ≤ value ≤ high."""
    low, value, high = echoes._percentile(sorted(times), 0.99)
    assert low <= value
    assert high is None or value <= high
    assert (high is None) == (len(times) < 368)


def test_steps_of_people_are_timed_and_missed() -> None:
    """What was answered done counts; a step that was refused, or never asked for, does not."""

    def ask(step: str) -> Entry:
        return Entry("ask", {"step": step, "text": "", "who": "", "within": 60}, TEST)

    def answer(step: str, word: str) -> Entry:
        bounds = {"low": 90 * 60 * S, "high": 91 * 60 * S}
        return Entry("answer", {"step": step, "answer": word, "user": "x", "way": "terminal", **bounds}, TEST)

    lines = [ask("one"), ask("two"), answer("one", "done"), answer("two", "refuse")]
    test = gather(chained([*accepted_run(), *lines])).tests[TEST]
    found = steps.unconfirmed(test, "", {"steps": ["one", "two", "three"]})
    assert found.value == 2
    assert found.about.startswith("two: nobody said done; three: nobody said done; one ")
    assert steps.unconfirmed(test, "", {"steps": ["one"]}).value == 0
    with pytest.raises(Inconclusive):
        steps.unconfirmed(test, "", {})
