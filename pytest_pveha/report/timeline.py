"""The times without good answers in a probe's timeline, as the report tables them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_pveha.judge.timeline import ProbeTimeline, Segment


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without good answers, in seconds after the fault. ``known`` False: none was bad, so nobody can tell.

    It was first seen at ``start``; the first good answer after it was asked for at ``end``, None if none came.
    These are what was seen, not bounds: those belong to the measured claims.
    """

    known: bool
    start: float
    end: float | None
    last: float
    saw: str


def gaps(probe: ProbeTimeline) -> Iterator[Gap]:
    """The probe's times without good answers, in order. Separate ones stay separate."""
    waiting: list[Segment] = []
    for segment in probe.segments:
        if segment.answer != "good":
            waiting.append(segment)
            continue
        if waiting:
            yield _gap(waiting, segment.start)
        waiting = []
    if waiting:
        yield _gap(waiting, None)


def _gap(waiting: list[Segment], end: float | None) -> Gap:
    bad = [segment for segment in waiting if segment.answer == "bad"]
    shown = bad or waiting
    return Gap(bool(bad), shown[0].start, end, waiting[-1].end, shown[0].saw)
