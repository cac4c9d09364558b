"""Measured values: the truth lies within their bounds, and what was not watched is not measured."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from journal_builder import TEST, Entry, S, accepted_run, chained, changed, fault, ns, samples, seen

from pytest_pveha.errors import Inconclusive
from pytest_pveha.judge import collateral_resets, downtime, lost_writes, not_before_death, recovery_time, violations
from pytest_pveha.judge.durations import downtime as downtime_of
from pytest_pveha.judge.durations import recovery_time as recovery_time_of
from pytest_pveha.judge.facts import Run, TestFacts, gather
from pytest_pveha.judge.measured import Measured, at_least, between, compare, counted
from pytest_pveha.judge.outages import hidden, outages
from pytest_pveha.judge.phases import phases

LIMIT = 2 * S
MS = 1_000_000


def facts(entries: list[Entry]) -> TestFacts:
    """The builder's test as the judge sees it."""
    return gather(chained(entries)).tests[TEST]


def sampled(*entries: Entry) -> TestFacts:
    """The builder's fault, with these samples of vm:101."""
    return facts([*(entry for entry in accepted_run() if entry.kind != "samples"), *entries])


# the interval rule


@pytest.mark.parametrize(
    ("measured", "op", "objective", "verdict"),
    [
        (Measured(5, 4, 6, "s"), "at_most", 6, "accepted"),
        (Measured(5, 4, 6, "s"), "at_most", 5.9, "inconclusive"),
        (Measured(5, 4, 6, "s"), "at_most", 4, "inconclusive"),
        (Measured(5, 4, 6, "s"), "at_most", 3.9, "rejected"),
        (Measured(5, 4, 6, "s"), "at_least", 4, "accepted"),
        (Measured(5, 4, 6, "s"), "at_least", 5, "inconclusive"),
        (Measured(5, 4, 6, "s"), "at_least", 6.1, "rejected"),
        (Measured(5, 4, 6, "s"), "at_most", None, "inconclusive"),
        (Measured(5, 4, 6, "s"), "equals", 5, "inconclusive"),
        (at_least(4 * S), "at_most", 3, "rejected"),
        (at_least(4 * S), "at_most", 400, "inconclusive"),
        (at_least(4 * S), "at_least", 4, "accepted"),
        (at_least(4 * S), "at_least", 5, "inconclusive"),
        (counted(0, 0), "none", None, "accepted"),
        (counted(1, 1), "none", None, "rejected"),
        (counted(0, 2), "none", None, "inconclusive"),
        (counted(1, None), "none", None, "rejected"),
    ],
)
def test_an_interval_meets_misses_or_straddles(
    measured: Measured, op: str, objective: float | None, verdict: str
) -> None:
    """The whole interval must meet the objective, or miss it; else nobody can tell."""
    assert compare(measured, op, objective)[0] == verdict


@given(low=st.integers(-(10**15), 10**15), width=st.integers(0, 10**15))
def test_seconds_never_lose_the_bounds(low: int, width: int) -> None:
    """Turned into seconds, the bounds enclose what they enclosed in nanoseconds, and the value lies within."""
    measured = between(low, low + width)
    assert measured.high is not None
    assert measured.value is not None
    assert measured.low <= low / S
    assert measured.high >= (low + width) / S
    assert measured.low <= measured.value <= measured.high


def test_values_read_well() -> None:
    """A value is printed with its bounds, a censored one as more than."""
    assert str(Measured(127.4, 126.91, 127.9, "s")) == "127.4 s (126.9 to 127.9)"
    assert str(Measured(None, -3, 4, "s")) == "-3 to 4 s"
    assert str(at_least(90 * S)) == "more than 90 s (its end was not seen)"
    assert str(counted(0, 0)) == "0"
    assert str(counted(0, 2)) == "0 to 2"
    assert str(counted(1, None)) == "at least 1"


# outages against the truth


@dataclass(frozen=True)
class History:
    """A subject that was up and down by turns, and the runs of answers of somebody who asked."""

    edges: list[int]
    runs: list[Run]

    def down(self, begin: int, end: int) -> int:
        """How long it was down between two moments."""
        total = 0
        for left, right in zip(self.edges[1::2], self.edges[2::2], strict=False):
            total += max(0, min(right, end) - max(left, begin))
        return total


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Up and down for at least three seconds each; asked at gaps and answered with delays of any size up to 1.5 s."""
    lengths = draw(st.lists(st.integers(3_000, 60_000), min_size=3, max_size=9))
    lengths += [5_000] * (len(lengths) % 2 == 0)  # ends up: odd number of stretches
    edges = [0]
    for length in lengths:
        edges.append(edges[-1] + length * MS)
    answers: list[tuple[str, int, int]] = []
    steps = draw(st.lists(st.integers(50, 1_500) | st.integers(2_000, 9_000), min_size=5, max_size=40))
    waits = draw(st.lists(st.integers(0, 1_400), min_size=5, max_size=40))
    spots = draw(st.lists(st.floats(0, 1), min_size=5, max_size=40))
    now = at = 0
    while True:
        wait = min(waits[at % len(waits)], steps[at % len(steps)])
        moment = now + round(wait * spots[at % len(spots)]) * MS
        if now + wait * MS >= edges[-1]:
            break
        stretch = max(index for index, edge in enumerate(edges) if edge <= moment)
        word = "good" if stretch % 2 == 0 else "bad"
        if at % 17 == 5:
            word = "unknown" if spots[0] > 0.5 else word
        answers.append((word, now, now + wait * MS))
        now += steps[at % len(steps)] * MS
        at += 1
    return History(edges, in_runs(answers))


def in_runs(answers: list[tuple[str, int, int]]) -> list[Run]:
    """Equal answers following one another, as the sampler writes them."""
    runs: list[Run] = []
    for word, sent, end in answers:
        if runs and runs[-1].answer == word:
            last = runs[-1]
            gap = max(last.worst_gap, sent - last.last)
            runs[-1] = Run("p", "s", word, "", last.first, sent, last.first_end, end, last.count + 1, gap)
        else:
            runs.append(Run("p", "s", word, "", sent, sent, end, end, 1, 0))
    return runs


@given(histories())
def test_an_outages_bounds_contain_the_truth(history: History) -> None:
    """Whatever the gaps and delays, the true time away lies within the bounds, and outages stay separate."""
    found = outages(history.runs, LIMIT)
    for outage in found:
        if outage.start_low is None or outage.end_high is None:
            continue
        truth = history.down(outage.start_low, outage.end_high)
        assert outage.high is not None
        assert outage.low <= truth <= outage.high
        assert history.down(outage.start_low, outage.start_high + 1) > 0
    for left, right in pairwise(found):
        assert left.end_high is not None
        assert right.start_low is not None
        assert left.end_low <= right.start_high


@given(histories())
def test_downtime_contains_the_truth(history: History) -> None:
    """The sum over all outages, with what could hide in the gaps, contains the true time away."""
    known = [run for run in history.runs if run.answer != "unknown"]
    assume(len(known) > 1 and known[0].answer == known[-1].answer == "good")
    test = TestFacts(TEST, runs=history.runs)
    try:
        measured = downtime_of(test, "s")
    except Inconclusive:
        return
    truth = history.down(known[0].first, known[-1].last_end) / S
    assert measured.high is not None
    assert measured.low <= truth
    assert truth <= measured.high


def test_what_was_not_asked_may_hide_an_outage() -> None:
    """A long gap between good answers counts as possibly away; a short one does not."""
    test = sampled(samples("tcp:vm:101", "good", -30, 20), samples("tcp:vm:101", "good", 50, 90))
    assert hidden(test.runs, LIMIT) == [(ns(20), ns(50) + 2 * MS)]
    assert downtime_of(test, "vm:101") == Measured(15.001, 0, 30.002, "s")
    assert hidden(sampled(samples("tcp:vm:101", "good", -30, 20, worst_gap=3 * S)).runs, LIMIT) != []
    quiet = sampled(samples("tcp:vm:101", "good", -30, 20))
    assert downtime_of(quiet, "vm:101") == Measured(0, 0, 0.1, "s")


def test_a_blind_spot_within_an_outage_is_not_certain() -> None:
    """Between bad answers with nothing known between them, the subject may have been back."""
    bad = [samples("tcp:vm:101", "bad", 0, 10), samples("tcp:vm:101", "bad", 30, 40)]
    good = [samples("tcp:vm:101", "good", -30, -0.1), samples("tcp:vm:101", "good", 40.1, 90)]
    (outage,) = outages(sampled(*good, *bad).runs, LIMIT)
    assert outage.low == 20 * S - 4 * MS
    bad = [samples("tcp:vm:101", "bad", 0, 10), samples("tcp:vm:101", "bad", 11, 20)]
    good[1] = samples("tcp:vm:101", "good", 20.1, 90)
    (outage,) = outages(sampled(*good, *bad).runs, LIMIT)
    assert outage.low == 20 * S - 2 * MS
    (outage,) = outages(sampled(*good, *bad, samples("tcp:vm:101", "unknown", 10.1, 10.9)).runs, LIMIT)
    assert outage.low == 19 * S - 4 * MS


# recovery time

GOOD, BAD = "good", "bad"
PLANS: list[tuple[str, list[tuple[str, float, float]], tuple[float, float] | str]] = [
    ("plain", [(GOOD, -30, 0), (BAD, 0.1, 100), (GOOD, 100.1, 200)], (99.5, 100.602)),
    ("flapping", [(GOOD, -30, 0), (BAD, 0.1, 60), (GOOD, 60.1, 65), (BAD, 65.1, 80), (GOOD, 80.1, 99)], (79.5, 80.602)),
    ("again", [(GOOD, -30, 0), (BAD, 0.1, 60), (GOOD, 60.1, 75), (BAD, 75.1, 80), (GOOD, 80.1, 99)], (59.5, 60.602)),
    ("good at the very end", [(GOOD, -30, 0), (BAD, 0.1, 60), (GOOD, 60.1, 61)], (59.5, 60.602)),
    (
        "blip before the effect",
        [(GOOD, -30, -2), (BAD, -1.9, -1.8), (GOOD, -1.7, 0.2), (BAD, 0.3, 60), (GOOD, 60.1, 99)],
        (59.5, 60.602),
    ),
    ("gap after recovery", [(GOOD, -30, 0), (BAD, 0.1, 60), (GOOD, 60.1, 61), (GOOD, 66, 99)], (59.5, 66.502)),
    ("no outage", [(GOOD, -30, 99)], "saw no outage"),
    ("outage before only", [(GOOD, -30, -2.1), (BAD, -2, -1.5), (GOOD, -1.4, 99)], "only before"),
    ("not before", [(BAD, 0.1, 60), (GOOD, 60.1, 99)], "not asked before the fault"),
    ("down before", [(GOOD, -30, -20), (BAD, -19.9, 60), (GOOD, 60.1, 99)], "did not answer before"),
    ("blind at the fault", [(GOOD, -30, -20), (BAD, 5, 60), (GOOD, 60.1, 99)], "around the fault"),
    ("blind at recovery", [(GOOD, -30, 0), (BAD, 0.1, 60), (GOOD, 63, 99)], "just when it recovered"),
    ("nothing", [], "no usable answer"),
    ("unknown only", [("unknown", -30, 99)], "no usable answer"),
]  # fmt: skip


@pytest.mark.parametrize(("plan", "expected"), [plan[1:] for plan in PLANS], ids=[plan[0] for plan in PLANS])
def test_recovery_time(plan: list[tuple[str, float, float]], expected: tuple[float, float] | str) -> None:
    """Recovery counts from the effect to the first lasting good answer, or it is not measured, and why."""
    test = sampled(*(samples("tcp:vm:101", *each) for each in plan))
    if isinstance(expected, str):
        with pytest.raises(Inconclusive, match=expected):
            recovery_time_of(test, "vm:101")
        return
    measured = recovery_time_of(test, "vm:101")
    assert (measured.low, measured.high) == expected


def test_good_answers_before_the_fault_surely_bit_are_no_recovery() -> None:
    """While it is not sure that the fault bit, a lasting good time that ends again may be from before it."""
    entries = [entry for entry in accepted_run() if entry.kind != "samples"]
    entries = changed(entries, "fault.effect", high=ns(20))
    plan = [(GOOD, -30, -0.4), (BAD, -0.3, -0.2), (GOOD, -0.1, 15), (BAD, 15.1, 60), (GOOD, 60.1, 99)]
    measured = recovery_time_of(facts([*entries, *(samples("tcp:vm:101", *each) for each in plan)]), "vm:101")
    assert (measured.low, measured.high) == (40, 60.602)


def test_a_subject_has_recovered_when_all_its_probes_have() -> None:
    """The slowest probe decides; one that never came back censors."""
    first = [
        samples("tcp:vm:101", GOOD, -30, 0),
        samples("tcp:vm:101", BAD, 0.1, 60),
        samples("tcp:vm:101", GOOD, 60.1, 99),
    ]
    second = [samples("tcp:vm:101:2", GOOD, -30, 0), samples("tcp:vm:101:2", BAD, 0.1, 80)]
    third = samples("tcp:vm:101:2", GOOD, 80.1, 99)
    assert recovery_time_of(sampled(*first, *second, third), "vm:101").low == 79.5
    assert recovery_time_of(sampled(*first, *second), "vm:101") == at_least(round(79.5 * S))
    assert downtime_of(sampled(*first, *second, third), "vm:101").high == 80.102


def test_a_watched_probe_without_answers_is_no_coverage() -> None:
    """A probe that was to be watched and gave nothing keeps the subject from being measured."""
    entries = accepted_run()
    entries.insert(
        5, Entry("watch", {"probe": "http:vm:101", "subject": "vm:101", "what": "http", "period_ms": 1}, TEST)
    )
    for measure in (recovery_time_of, downtime_of):
        with pytest.raises(Inconclusive, match="http:vm:101 gave no usable answer"):
            measure(facts(entries), "vm:101")
        with pytest.raises(Inconclusive, match="vm:999 was not watched"):
            measure(facts(entries), "vm:999")


def test_the_truth_lies_within_the_recovery_time() -> None:
    """For any true moments of effect and return, any sampling, the bounds contain their difference."""

    @given(
        effect=st.floats(-0.5, 0.5),
        back=st.floats(20, 200),
        step=st.integers(50, 1500),
        wait=st.floats(0, 1),
    )
    def check(effect: float, back: float, step: int, wait: float) -> None:
        answers = []
        for sent in range(ns(-30), ns(250), step * MS):
            moment = sent + round(wait * step * MS)
            up = moment < ns(effect) or moment >= ns(back)
            answers.append((GOOD if up else BAD, sent, sent + step * MS))
        test = sampled()
        test.runs = [Run("tcp:vm:101", "vm:101", *_rest(run)) for run in in_runs(answers)]
        measured = recovery_time_of(test, "vm:101")
        assert measured.high is not None
        assert measured.low - 1e-6 <= back - effect <= measured.high + 1e-6

    check()


def _rest(run: Run) -> tuple[Any, ...]:
    return run.answer, run.saw, run.first, run.last, run.first_end, run.last_end, run.count, run.worst_gap


# phases


def test_without_a_fault_there_are_no_phases() -> None:
    """Phases count from the fault's effect; without one there is nothing to count from."""
    assert phases(facts([entry for entry in accepted_run() if entry.kind != "fault.effect"])) == []


def test_the_source_that_knows_better_is_taken() -> None:
    """A journal's line bounds a change more closely than the API's polling."""
    entries = accepted_run()
    entries.insert(-4, seen("node_status/pve1", "unknown", "fence", 66.2, 66.3, "journal pve2"))
    (fence,) = (each for each in phases(facts(entries)) if each.name == "fence")
    assert (fence.low, fence.high, fence.source) == (66.2, 66.3, "journal pve2")


def test_a_move_home_is_not_the_recovery() -> None:
    """Only the victim's services count, and only their first new place."""
    entries = accepted_run()
    entries.insert(-4, seen("service/vm:102", "started@pve2", "started@pve3", 450, 451))
    entries.insert(-4, seen("service/vm:101", "started@pve2", "started@pve1", 460, 461))
    (start,) = (each for each in phases(facts(entries)) if each.name == "start")
    assert start.start == 126.5


def test_an_acknowledgement_from_the_journal_counts() -> None:
    """When fence and recovery fall in one round, the CRM's own line tells."""
    entries = [entry for entry in accepted_run() if entry.data.get("old") != "fence"]
    entries.insert(-4, seen("acknowledged/pve1", None, "yes", 172, 172.2, "journal pve2"))
    (found,) = (each for each in phases(facts(entries)) if each.name == "acknowledged")
    assert (found.low, found.high) == (172.0, 172.2)


# what suites say


def test_measures_are_data() -> None:
    """A claim's measure names what the judge computes and of whom; nothing is measured yet."""

    class Guest:
        sid = "vm:101"
        tier = "gold"
        canary = True

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

    guest = Guest()
    assert recovery_time([guest]).guests == downtime([guest]).guests == lost_writes([guest]).guests == (guest,)
    assert not_before_death([guest], Named("pve1")).params == {"node": "pve1"}
    assert collateral_resets(Named("pve2"), Named("pve1")).params == {"except": ["pve1", "pve2"]}
    assert violations([Named("b"), Named("a")]).params == {"audits": ["a", "b"]}
    assert fault("heal").data == {"fault": "power-cut-1"}


# where no answer came


def test_silence_begins_when_the_question_had_arrived() -> None:
    """Not when it was given up: it had left, and its way is no longer than there and back was just before."""
    good = Run("p", "s", "good", "", 0, 10 * S, 2 * MS, 10 * S + 3 * MS, 101, 100 * MS)
    after = Run("p", "s", "good", "", 12 * S, 20 * S, 12 * S + 2 * MS, 20 * S + 2 * MS, 81, 100 * MS)

    def silent(first_out: int | None) -> Run:
        sent = 10 * S + 100 * MS
        return Run("p", "s", "bad", "", sent, sent + S, sent + 90 * MS, sent + S + 90 * MS, 11, 100 * MS, first_out)

    for first_out, arrived in (
        (None, 190 * MS),  # refused: when the answer came
        (10 * S + 105 * MS, 108 * MS),
        (10 * S + 189 * MS, 190 * MS),  # never later than it was given up
    ):
        (found,) = outages([good, silent(first_out), after], LIMIT)
        assert (found.start_low, found.start_high) == (10 * S, 10 * S + arrived)
        assert found.low == 11 * S + 100 * MS - (10 * S + arrived)
        (first,) = outages([silent(first_out), after], LIMIT)  # nobody knows how long its way was
        assert first.start_high == 10 * S + 190 * MS


@pytest.mark.parametrize("out", ["soon", None, -1, 10**18])
def test_an_impossible_moment_of_leaving_spoils_the_line(out: object) -> None:
    """It is named, not guessed."""
    test = sampled(samples("tcp:vm:101", "good", -5, 0), samples("tcp:vm:101", "bad", 0.1, 1, first_out=out))
    assert [run.answer for run in test.runs] == ["good"]
    assert test.spoilt
