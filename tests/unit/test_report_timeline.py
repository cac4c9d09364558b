"""Outages as the report tables them."""

from __future__ import annotations

from pytest_pveha.judge.timeline import ProbeTimeline, Segment
from pytest_pveha.report.timeline import Gap, gaps


def found(*segments: tuple[float, float, str]) -> list[Gap]:
    return list(gaps(ProbeTimeline("tcp:vm:101", "vm:101", "tcp", tuple(Segment(*each, "") for each in segments))))


def test_separate_outages_stay_separate() -> None:
    """Two outages with good answers between them are two."""
    both = found((0, 1, "good"), (2, 3, "bad"), (4, 5, "good"), (6, 7, "bad"), (8, 9, "good"))
    assert [(gap.start, gap.end) for gap in both] == [(2, 4), (6, 8)]


def test_an_outage_that_never_ended_has_no_end() -> None:
    """An outage still there at the last sample has no end."""
    (gap,) = found((0, 1, "good"), (2, 9, "bad"))
    assert (gap.known, gap.start, gap.end) == (True, 2, None)


def test_not_knowing_is_no_outage_and_no_answer_either() -> None:
    """A time in which no observer could tell is listed as such, not as an outage."""
    (gap,) = found((0, 1, "good"), (2, 3, "unknown"), (4, 5, "good"))
    assert (gap.known, gap.start, gap.end) == (False, 2, 4)


def test_a_lane_without_trouble_has_no_gap() -> None:
    """Good answers throughout are no gap; nor is nothing at all."""
    assert found((0, 1, "good"), (2, 3, "good")) == []
    assert found() == []
