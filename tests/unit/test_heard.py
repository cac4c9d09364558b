"""When somebody who is asked again and again has answered: no more is on record than was heard."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from journal_builder import TEST, Entry, chained

from pytest_pveha.judge.facts import SECOND, gather
from pytest_pveha.observe.heard import Heard
from pytest_pveha.observe.observer import Observer
from pytest_pveha.record.kinds import FIELDS

EVERY = 2 * SECOND


def recorded() -> tuple[Heard, list[tuple[str, dict[str, Any]]]]:
    """Somebody's ears, and what they write."""
    lines: list[tuple[str, dict[str, Any]]] = []
    observer = SimpleNamespace(write=lambda kind, data: lines.append((kind, data)))
    return Heard(cast("Observer", observer), EVERY), lines


def test_that_somebody_will_be_asked_is_on_record_first() -> None:
    """A claim about one who never answered is then inconclusive, and no pass."""
    heard, lines = recorded()
    heard.expect("ceph")
    heard.stop()
    ((kind, data),) = lines
    assert kind == "watch"
    assert (data["probe"], data["subject"], data["period_ms"]) == ("inside:ceph", "node:ceph:inside", 2000)


def test_equal_answers_are_one_run() -> None:
    """It says when the first and the last were asked for and came, how many there were, and their widest gap."""
    heard, lines = recorded()
    for asked, took in ((10, 1), (12, 1), (19, 3), (23, 1)):
        heard.told("ceph", "good", asked * SECOND, (asked + took) * SECOND)
    assert lines == []
    heard.stop()
    ((kind, data),) = lines
    assert kind == "samples"
    assert [data[key] // SECOND for key in ("first", "first_end", "last", "last_end")] == [10, 11, 23, 24]
    assert (data["count"], data["worst_gap"], data["answer"]) == (4, 7 * SECOND, "good")


def test_another_answer_ends_the_run() -> None:
    """What was bad is never inside of what was good."""
    heard, lines = recorded()
    for asked, answer in ((10, "good"), (12, "good"), (14, "bad"), (30, "good")):
        heard.told("ceph", answer, asked * SECOND, asked * SECOND + 1)
    heard.stop()
    told = [(data["answer"], data["saw"], data["first"] // SECOND, data["last"] // SECOND) for _, data in lines]
    assert told == [("good", "answered", 10, 12), ("bad", "no answer", 14, 14), ("good", "answered", 30, 30)]


def test_each_has_runs_of_its_own() -> None:
    """One node's silence ends nobody else's run."""
    heard, lines = recorded()
    heard.told("pve1", "good", 0, 1)
    heard.told("pve2", "bad", 0, 1)
    heard.told("pve1", "good", EVERY, EVERY + 1)
    heard.stop()
    assert sorted((data["probe"], data["answer"], data["count"]) for _, data in lines) == [
        ("inside:pve1", "good", 2),
        ("inside:pve2", "bad", 1),
    ]


def test_after_the_end_it_begins_anew() -> None:
    """Nothing is told twice, and the next run has nothing of the one before."""
    heard, lines = recorded()
    heard.told("ceph", "good", 0, 1)
    heard.stop()
    heard.stop()
    assert len(lines) == 1
    heard.told("ceph", "good", 90 * SECOND, 91 * SECOND)
    heard.stop()
    assert (lines[1][1]["first"], lines[1][1]["worst_gap"], lines[1][1]["count"]) == (90 * SECOND, 0, 1)


@given(
    st.lists(
        st.tuples(st.sampled_from(["good", "bad"]), st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=30
    )
)
def test_what_is_on_record_is_what_was_heard(answers: list[tuple[str, int, int]]) -> None:
    """Every answer is in one run, in order, none counts twice, no gap is wider than is told; and the judge takes it."""
    heard, lines = recorded()
    now, asked = 0, list[tuple[str, int, int]]()
    for answer, pause, took in answers:
        begin, now = now + pause * SECOND, now + (pause + took) * SECOND
        heard.told("ceph", answer, begin, now)
        asked.append((answer, begin, now))
    heard.stop()
    assert all(FIELDS[kind] <= data.keys() for kind, data in lines)
    runs = gather(chained(Entry(kind, data, TEST) for kind, data in lines)).tests[TEST].runs
    assert sum(run.count for run in runs) == len(asked)
    left = list(asked)
    for run in runs:
        mine, left = left[: run.count], left[run.count :]
        assert {answer for answer, _, _ in mine} == {run.answer}
        assert (run.first, run.first_end) == mine[0][1:]
        assert (run.last, run.last_end) == mine[-1][1:]
        gaps = [later[1] - earlier[1] for earlier, later in pairwise(mine)]
        assert run.worst_gap == max(gaps, default=0)
    assert all(one.answer != other.answer for one, other in pairwise(runs))
