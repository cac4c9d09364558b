"""What the probes of one test saw, as the report draws it: lanes of equal answers, and the outages in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of equal answers: from the first sending to the last answer, in seconds after the fault."""

    start_s: float
    end_s: float
    answer: str


@dataclass(frozen=True, slots=True)
class ProbeLane:
    """One probe's answers over the test, in order."""

    probe: str
    subject: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class TestTimeline:
    """All probes of one test."""

    __test__ = False  # no test class, whatever pytest takes its name for

    test: str
    lanes: tuple[ProbeLane, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without good answers. ``known`` is False when no answer was bad: then nobody can tell.

    It lasted at least ``least`` and at most ``most`` seconds; ``most`` is None when it did not end while we watched.
    """

    known: bool
    start: float
    end: float | None
    least: float
    most: float | None


def gaps(lane: ProbeLane) -> Iterator[Gap]:
    """The lane's times without good answers, in order. Separate ones stay separate.

    At most it lasted from the last good answer before to the first good one after, at least from first to last bad.
    """
    waiting: list[Segment] = []
    before: float | None = None
    for segment in lane.segments:
        if segment.answer != "good":
            waiting.append(segment)
            continue
        if waiting:
            yield _gap(waiting, before, segment.start_s)
        waiting, before = [], segment.end_s
    if waiting:
        yield _gap(waiting, before, None)


def _gap(waiting: list[Segment], before: float | None, after: float | None) -> Gap:
    bad = [segment for segment in waiting if segment.answer == "bad"] or waiting
    known = bad is not waiting
    start = bad[0].start_s
    least = bad[-1].end_s - start if known else 0.0
    begin = before if before is not None else waiting[0].start_s
    return Gap(known, start, after, least, None if after is None else after - begin)
